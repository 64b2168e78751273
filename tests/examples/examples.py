#!/usr/bin/env python3
"""Compiles the C++ examples of the documentation: those of README.md and the other pages, and those of the doc comments in include/.

An example is a block between ```cpp and ```. What it is, is seen from its text:

  - With `int main(`, it is a complete program and is compiled as it stands.
  - Otherwise it is a fragment. Its includes, and functions and types that begin in the first column, stand at namespace scope; the other lines
    are the body of a coroutine. stage.hpp declares what it may use beside that, and PARAMETERS are the coroutine's.

```cpp wrong marks an example of what not to write: it compiles, too, but may have a shape that tests/tidy forbids. All others may not.

A table row that begins with `Type::member` and `value` is an example, too: it says that this is the member's default.

Errors of the compiler name the line of the documentation.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tidy"))
import coroutine_shapes  # noqa: E402
import source  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PARAMETERS = (
    "[[maybe_unused]] ferrule::Connection connection, [[maybe_unused]] ferrule::Reactor& reactor, "
    "[[maybe_unused]] ferrule::Reactor& other, [[maybe_unused]] ferrule::Ring& ring, "
    "[[maybe_unused]] ferrule::Kernel& kernel, [[maybe_unused]] ferrule::Server& server, "
    "[[maybe_unused]] std::stop_token token"
)
# An example may leave unused what it shows, and nothing else that a compiler warns of.
FLAGS = (
    "-std=c++23 -fsyntax-only -Wall -Wextra -Wpedantic -Werror -Wno-unused-variable -Wno-unused-but-set-variable -Wno-unused-function "
    "-Wno-unused-parameter -Wno-unknown-warning-option -Wno-subobject-linkage"
).split()
FENCE = re.compile(r"^\s*```\s*(\S*)\s*(.*?)\s*$")
OTHER_NAMES_OF_CPP = {"c++", "cc", "cxx", "hpp", "h"}
# `Task<> serve(Connection connection) {`, `template <class T>`, `struct Served {`; not `co_await ...`, `while (...) {`.
DECLARATION = re.compile(r"(template\b|(struct|class|enum|union)\s+\w|(?!return\b|co_\w+\b|else\b|auto\b)[\w:]+(<.*>)?[&*]*\s+[&*]*\w+\(.*\)[\s\w]*\{)")
DEFAULT = re.compile(r"^\|\s*`((?:\w+::)*\w+)::(\w+)`\s*\|\s*`([^`]+)`\s*\|")


class Example:
    """One block: where it stands, its lines, and what it is."""

    def __init__(self, name, first_line, lines, wrong):
        self.name = name
        self.first_line = first_line
        self.lines = lines
        self.wrong = wrong

    @property
    def text(self):
        return "\n".join(self.lines) + "\n"

    @property
    def is_program(self):
        return "int main(" in self.text


def documents(root):
    """Every page and header, as (name, numbered lines of its text or of its doc comments)."""
    for path in sorted(root.glob("*.md")) + sorted(root.glob("docs/**/*.md")):
        lines = path.read_text().splitlines()
        yield path.relative_to(root).as_posix(), list(enumerate(lines, 1))
    for path in sorted(root.glob("include/**/*.hpp")):
        comments = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if match := re.match(r"\s*///( (.*))?$", line):
                comments.append((number, match[2] or ""))
            elif comments and comments[-1][1] is not None:
                comments.append((number, None))  # the comment ends, and no block may go on behind it
        yield path.relative_to(root).as_posix(), comments


def find_examples(root):
    """The examples of all documents, and what is wrong with their fences."""
    examples, errors = [], []
    for name, lines in documents(root):
        opened = None
        for number, text in lines:
            fence = FENCE.match(text) if text is not None else None
            if opened is None:
                if fence is None:
                    continue
                language, remark = fence[1], fence[2]
                if language.lower() in OTHER_NAMES_OF_CPP:
                    errors.append(f"{name}:{number}: a block of {language}: the name of the language is cpp")
                if language == "cpp" and remark not in ("", "wrong"):
                    errors.append(f"{name}:{number}: cpp {remark}: there is only cpp and cpp wrong")
                opened = Example(name, number + 1, [], remark == "wrong") if language == "cpp" else False
                opened_at = number
            elif fence is not None:
                if opened:
                    examples.append(opened)
                opened = None
            elif text is None:
                errors.append(f"{name}:{opened_at}: a block that does not end")
                opened = None
            elif opened:
                opened.lines.append(text)
        if opened is not None:
            errors.append(f"{name}:{opened_at}: a block that does not end")
    return examples, errors


def find_defaults(root):
    """The defaults that tables state, as (name, line, type, member, value)."""
    for name, lines in documents(root):
        for number, text in lines:
            if text is not None and (match := DEFAULT.match(text)):
                yield name, number, *match.groups()


def banned_shapes(example):
    statements = source.statements(source.tokenize(example.text))
    for line, what in coroutine_shapes.violations(statements):
        yield f"{example.name}:{example.first_line + line - 1}: {what}"


def depth_after(line, depth):
    code = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])\'|//.*', "", line)
    return depth + code.count("{") - code.count("}")


def part(example):
    """A fragment's includes, its declarations and its body, the last two as numbered lines."""
    includes, declarations, body = [], [], []
    depth, in_template = 0, False
    for number, line in enumerate(example.lines, example.first_line):
        if depth == 0 and line.startswith("#include"):
            includes.append(line)
        elif depth > 0 or in_template or DECLARATION.match(line):
            declarations.append((number, line))
            depth = depth_after(line, depth)
            in_template = depth == 0 and line.startswith("template")
        else:
            body.append((number, line))
    return includes, declarations, body


def located(name, lines):
    text, expected = "", None
    for number, line in lines:
        if number != expected:
            text += f'#line {number} "{name}"\n'
        text += line + "\n"
        expected = number + 1
    return text


def fragments_unit(fragments, defaults):
    """One translation unit for all fragments, each in a namespace of its own."""
    includes, text = [], ""
    for index, example in enumerate(fragments):
        its_includes, declarations, body = part(example)
        includes += its_includes
        text += f"namespace example_{index} {{\n" + located(example.name, declarations)
        if any(line.strip() and not line.strip().startswith("//") for _, line in body):
            # The inner block lets an example declare a name that is a parameter.
            text += f"ferrule::Task<> example({PARAMETERS}) {{ {{\n{located(example.name, body)}}}\nco_return; }}\n"
        text += "}\n"
    # clang cannot make the empty std::string of libstdc++ 12, a member of ServerOptions, in a constant expression.
    text += "#if !defined(__clang__)\n"
    for name, number, type_name, member, value in defaults:
        text += f'#line {number} "{name}"\nstatic_assert({type_name}{{}}.{member} == ({value}), "{type_name}::{member}");\n'
    text += "#endif\n"
    return '#include "stage.hpp"\n' + "".join(f"{line}\n" for line in dict.fromkeys(includes)) + text


def compile_unit(compiler, text):
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as unit:
        unit.write(text)
        unit.flush()
        command = [compiler, *FLAGS, f"-I{REPOSITORY / 'include'}", f"-I{REPOSITORY / 'tests' / 'examples'}", unit.name]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else ended.stderr or f"{compiler}: exit status {ended.returncode}"


def check(root, compiler):
    """The errors, and how many examples and defaults there are."""
    examples, errors = find_examples(root)
    defaults = list(find_defaults(root))
    for example in examples:
        if not example.wrong:
            errors += banned_shapes(example)
    units = [f'#line {example.first_line} "{example.name}"\n{example.text}' for example in examples if example.is_program]
    fragments = [example for example in examples if not example.is_program]
    if fragments or defaults:
        units.append(fragments_unit(fragments, defaults))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        errors += [error for error in pool.map(lambda unit: compile_unit(compiler, unit), units) if error]
    return errors, len(examples), len(defaults)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=REPOSITORY, help="the source tree")
    parser.add_argument("--compiler", default="c++")
    arguments = parser.parse_args()
    errors, examples, defaults = check(arguments.root.resolve(), arguments.compiler)
    for error in errors:
        print(error)
    if examples == 0:
        errors.append("there are none")
    print(f"{examples} examples, {defaults} defaults" + (": there are errors" if errors else ""))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
