#!/usr/bin/env python3
"""Checks of the source tree that no compiler makes: `./ferrule tidy`, and a test each in CTest. What each check holds is in its docstring.

Every check takes a Tree and returns violations, "file:line: what is wrong". tidy_test.py shows of each that it can fail.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys

import coroutine_shapes
import source
from source import Token

# The floors of docs/design.md. A file may include what is below its own floor, and its own folder; nothing beside it.
FLOORS = {
    "ring": 1, "task": 1, "reactor": 2, "net": 3, "fs": 3, "server": 4, "client": 5,
    "admin": 6, "tls": 6, "http": 6, "assets": 6, "redis": 6, "postgres": 6, "asio": 6,
}  # fmt: skip
# Who may include its neighbour on the same floor all the same: connections send files.
NEIGHBOURS = {("net", "fs")}
# Headers at the root of include/ferrule/ that belong to no floor: everybody may include them.
GROUND = {"version", "assert"}
# The simulated kernel stands behind the ring's seam, and nobody but tests may know it.
SIMULATOR = "sim"
# Of what is not the ring's floor it knows this one: its fibers have a current host each.
SIMULATOR_KNOWS = {"ferrule/task/host.hpp"}
# The one mutable static that law 12 allows: a thread-local pointer to the host (a reactor) that is being dispatched.
ALLOWED_MUTABLE_STATICS = {"current_host"}
# Objects without data members, which their virtual functions forbid to be constants: nothing in them can change.
ALLOWED_STATELESS_OBJECTS = {"the_linux_kernel", "the_resolve_category"}
POINTER_BYTES = 8
EVERYWHERE = ("include", "src", "tests", "playground", "bench", "tools")
FORBIDDEN_NAMES = {"mgr", "ctx", "util", "utils", "helper", "helpers", "common", "impl", "misc"}
# The status by which CTest knows a skipped test.
SKIPPED = 77


class Skip(Exception):
    """The check cannot run here; its text is the reason."""


class Tree:
    """The source tree at `root`, and what was built from it at `build`, where the check needs that."""

    def __init__(self, root, build=None):
        self.root = pathlib.Path(root).resolve()
        self.build = pathlib.Path(build).resolve() if build else None
        self._statements = {}

    def files(self, *folders, suffixes=(".hpp", ".cpp")):
        return sorted(
            path
            for folder in folders
            for path in (self.root / folder).rglob("*")
            if path.suffix in suffixes and path.is_file()
        )

    def name(self, path):
        return path.relative_to(self.root).as_posix()

    def statements(self, path):
        if path not in self._statements:
            self._statements[path] = source.statements(source.tokenize(path.read_text()))
        return self._statements[path]

    def area(self, path):
        """Where a file belongs: include/ferrule/net/x.hpp, src/net/x.cpp and include/ferrule/net.hpp are all `net`."""
        parts = path.relative_to(self.root).parts
        parts = parts[2:] if parts[:2] == ("include", "ferrule") else parts[1:]
        return pathlib.Path(parts[0]).stem if len(parts) == 1 else parts[0]


def formatting(tree):
    """Sources are as clang-format 14 leaves them: `./ferrule format`."""
    program = shutil.which("clang-format-14") or shutil.which("clang-format")
    if program is None:
        raise Skip("clang-format is not installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if " 14." not in version:
        raise Skip(f"formatting is defined by clang-format 14; this is {version.strip()}")
    command = [program, "--dry-run", "-Werror", "-ferror-limit=1", f"--style=file:{tree.root / '.clang-format'}"]
    files = tree.files(*EVERYWHERE)
    if not files:
        return []
    result = subprocess.run(command + files, capture_output=True, text=True, check=False)
    found = re.findall(r"^(\S+?):(\d+):\d+: error:", result.stderr, re.MULTILINE)
    if result.returncode != 0 and not found:
        return [result.stderr]
    return [f"{tree.name(pathlib.Path(path))}:{line}: not formatted" for path, line in found]


_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def includes(path):
    """(line, quote, what) of every include directive."""
    text = path.read_text()
    return [(text.count("\n", 0, match.start()) + 1, match[1], match[2]) for match in _INCLUDE.finditer(text)]


def floors(tree):
    """A floor includes only floors below it and its own folder; the playground and the tools include public headers and their own."""
    violations = []
    for path in tree.files("include", "src"):
        area = tree.area(path)
        for line, quote, what in includes(path):
            where = f"{tree.name(path)}:{line}"
            if what.startswith("ferrule/"):
                target = what.split("/")[1].removesuffix(".hpp")
            elif quote == '"':
                target = what.split("/")[0] if "/" in what else area
            else:
                continue
            if target == area or target in GROUND:
                continue
            if area in GROUND:
                violations.append(f"{where}: {area} is below every floor and includes {what}")
            elif target == SIMULATOR:
                violations.append(f"{where}: only tests may know the simulated kernel, not {what}")
            elif area == SIMULATOR:
                if target != "ring" and what not in SIMULATOR_KNOWS:
                    violations.append(f"{where}: the simulated kernel stands behind the ring's seam; it may not know {what}")
            elif area not in FLOORS or target not in FLOORS:
                violations.append(f"{where}: {what}: {target if area in FLOORS else area} is on no floor (FLOORS in tidy.py)")
            elif FLOORS[target] >= FLOORS[area] and (area, target) not in NEIGHBOURS:
                violations.append(f"{where}: {area} is on floor {FLOORS[area]} and may not include {what} of floor {FLOORS[target]}")
    for path in tree.files("playground", "tools"):
        for line, quote, what in includes(path):
            if quote == '"' and not (path.parent / what).exists():
                violations.append(f"{tree.name(path)}:{line}: only public headers, <ferrule/...>, not {what}")
    return violations


def headers(tree):
    """Each public header is compiled alone by the target header_self_containment, and none includes <linux/io_uring.h>."""
    violations = []
    public = tree.files("include", suffixes=(".hpp",))
    for path in public:
        for line, _, what in includes(path):
            if what == "linux/io_uring.h":
                violations.append(f"{tree.name(path)}:{line}: the ABI is our own header, not {what}")
        if "#pragma once" not in path.read_text():
            violations.append(f"{tree.name(path)}:1: no #pragma once")
    if tree.build is None:
        raise Skip("nothing is built")
    commands = json.loads((tree.build / "compile_commands.json").read_text())
    compiled = {pathlib.Path(command["file"]).read_text() for command in commands if "header_self_containment" in command["file"]}
    for path in public:
        include = f"#include <{path.relative_to(tree.root / 'include').as_posix()}>"
        if not any(include in text for text in compiled):
            violations.append(f"{tree.name(path)}:1: not compiled alone: configure again")
    return violations


def coroutines(tree):
    """No coroutine shape that GCC 12 miscompiles or that dangles: see coroutine_shapes.py."""
    return [
        f"{tree.name(path)}:{line}: {what}"
        for path in tree.files(*EVERYWHERE)
        for line, what in sorted(set(coroutine_shapes.violations(tree.statements(path))))
    ]


def _declares_mutable_static(statement, at_namespace_scope):
    """The name of the mutable variable with static storage that the statement declares, or None."""
    tokens = [item for item in statement.items if isinstance(item, Token)]
    texts = [token.text for token in tokens]
    for stop in ("=", "{", "["):
        if stop in texts:
            texts = texts[: texts.index(stop)]
    storage = "thread_local" in texts or texts[:1] == ["static"] or (at_namespace_scope and texts[:1] == ["inline"])
    if not storage or {"(", "const", "constexpr", "namespace", "operator"} & set(texts) or len(texts) < 3:
        return None
    return texts[-1]


def _mutable_statics(statements, at_namespace_scope=True):
    for statement in statements:
        texts = [item.text for item in statement.items if isinstance(item, Token)]
        name = _declares_mutable_static(statement, at_namespace_scope) if statement.block is None else None
        if name:
            yield statement.line, name
        for item in source.all_items(statement.items):
            if isinstance(item, source.Lambda):
                yield from _mutable_statics(item.body, False)
        if statement.block is not None:
            yield from _mutable_statics(statement.block, at_namespace_scope and "namespace" in texts)


def globals_(tree):
    """No mutable variable with static storage (law 12), in the sources and in what was built from them."""
    violations = [
        f"{tree.name(path)}:{line}: {name} is mutable and has static storage (law 12)"
        for path in tree.files("include", "src")
        for line, name in _mutable_statics(tree.statements(path))
        if name not in ALLOWED_MUTABLE_STATICS
    ]
    if tree.build is not None:
        for library in sorted(tree.build.glob("libferrule*.a")):
            listing = subprocess.run(
                ["nm", "--demangle", "--format=sysv", library], capture_output=True, text=True, check=True
            ).stdout
            violations += [f"{library.name}: {what}" for what in mutable_symbols(listing)]
    return violations


def mutable_symbols(listing):
    """What `nm --format=sysv` shows in sections that can be written to while the program runs."""
    found = []
    for line in listing.splitlines():
        columns = [column.strip() for column in line.rsplit("|", 6)]
        if len(columns) != 7:
            continue
        name, size, section = columns[0], columns[4], columns[6]
        # .data.rel.ro holds constants with addresses in them (virtual tables): read-only once they are relocated.
        if not re.match(r"\.(data|bss|tdata|tbss)\b", section) or section.startswith(".data.rel.ro"):
            continue
        # Of the language's own: addresses of exception types, and the frame of the coroutine that does nothing.
        if name.startswith("DW.ref.") or "::noop_coroutine_promise>::" in name:
            continue
        if name.split("::")[-1] in ALLOWED_MUTABLE_STATICS:
            continue
        if name.split("::")[-1] in ALLOWED_STATELESS_OBJECTS and int(size, 16) == POINTER_BYTES:
            continue
        found.append(f"{name} is in {section}: mutable, with static storage (law 12)")
    return found


# What the language or the standard library asks of a type by name; their contract is not ours to describe.
_CUSTOMARY_MEMBERS = {
    "await_ready", "await_suspend", "await_resume", "get_return_object", "initial_suspend", "final_suspend", "return_value",
    "return_void", "unhandled_exception", "begin", "end", "operator",
}  # fmt: skip


_NO_NAMES = {"class", "struct", "final", "FERRULE_EXPORT"}


def _declared_function(texts):
    """The name of the function that a statement declares, or None. `operator` stands for every operator."""
    if "operator" in texts:
        return "operator"
    if texts and texts[0] == "template":
        texts = source.after_template(texts)
    depth = 0
    for index, text in enumerate(texts):
        depth += {"<": 1, ">": -1, ">>": -2}.get(text, 0)
        if text == "=" and depth <= 0:
            return None
        if text == "(" and depth <= 0 and index > 0:
            name = texts[index - 1]
            if name in ("requires", "alignas", "decltype", "noexcept", "explicit", "]"):
                continue
            # `Type::name(...)` at namespace scope defines what was declared, and described, in the class.
            qualified = "::" in texts[max(0, index - 3) : index - 1] and texts[index - 2] in ("::", "~")
            return None if qualified or not re.match(r"[a-z_]\w*$|[A-Z]\w*$", name) else name
    return None


def _without_attributes(texts):
    kept, depth, skipping = [], 0, False
    for index, text in enumerate(texts):
        if not skipping and (texts[index : index + 2] == ["[", "["] or text == "alignas"):
            skipping, depth = True, 0
        if not skipping:
            kept.append(text)
            continue
        depth += {"[": 1, "(": 1, "]": -1, ")": -1}.get(text, 0)
        skipping = depth > 0 or text == "alignas"
    return kept


def undocumented(text):
    """(line, name) of the public types and functions in a header that no `///` comment precedes."""
    lines = text.splitlines()
    found = []

    def documented(line, previous_documented):
        above = lines[line - 2].strip() if line >= 2 else ""
        if above.startswith("///"):
            return True
        # Overloads share the comment of the first where no blank line parts them.
        return previous_documented and above != ""

    def visit(statements, in_class=None, public=True):
        previous = False
        for statement in statements:
            texts = _without_attributes([item.text for item in statement.items if isinstance(item, Token)])
            if not texts:
                continue
            if in_class and len(texts) == 1 and texts[0] in ("public", "private", "protected"):
                public = texts[0] == "public"
                continue
            plain = source.after_template(texts) if texts[0] == "template" else texts
            if not plain or texts[:3] == ["template", "<", ">"]:
                continue
            if "namespace" in plain[:2]:
                if statement.block is not None and not {"detail", "internal"} & set(plain):
                    visit(statement.block)
                continue
            if plain[0] in ("using", "static_assert", "extern", "friend", "typedef", "FERRULE_ASSERT") or not public:
                continue
            is_documented = documented(statement.line, previous)
            previous = is_documented
            kind = next((word for word in plain if word in ("class", "struct", "union", "enum", "concept")), None)
            if kind and "(" not in plain[: plain.index(kind)]:
                if statement.block is None and kind != "concept":
                    continue
                position = plain.index(kind) + 1
                name = next((word for word in plain[position:] if re.match(r"[A-Za-z]", word) and word not in _NO_NAMES), "unnamed")
                if not is_documented and name not in ("promise_type", "unnamed"):
                    found.append((statement.line, name))
                if statement.block is not None and kind in ("class", "struct") and name != "promise_type":
                    visit(statement.block, in_class=name, public=kind == "struct")
                continue
            name = _declared_function(plain)
            if name is None or is_documented or name in _CUSTOMARY_MEMBERS:
                continue
            if in_class and (name == in_class or {"~", "override"} & set(plain) or plain[-1] in ("default", "delete")):
                continue
            found.append((statement.line, name))

    visit(source.statements(source.tokenize(text)))
    return found


def documentation(tree):
    """Public types and functions have a doc comment, `///`."""
    return [
        f"{tree.name(path)}:{line}: {name} has no doc comment"
        for path in tree.files("include")
        for line, name in undocumented(path.read_text())
    ]


def unfinished(tree):
    """Nothing is left for later: what the pattern below finds."""
    violations = []
    pattern = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
    for path in tree.files(*EVERYWHERE, "cmake", suffixes=(".hpp", ".cpp", ".py", ".sh", ".cmake", ".txt")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if pattern.search(line):
                violations.append(f"{tree.name(path)}:{number}: {pattern.search(line)[0]}")
    return violations


def names(tree):
    """A thing has the same name in include/, src/ and tests/, and no name says nothing."""
    violations = []
    for path in tree.files(*EVERYWHERE):
        for part in path.relative_to(tree.root).with_suffix("").parts:
            for word in FORBIDDEN_NAMES & set(part.split("_")):
                violations.append(f"{tree.name(path)}:1: `{word}` names nothing")
    for path in tree.files("src", suffixes=(".cpp",)):
        area, stem = tree.area(path), path.stem
        candidates = [tree.root / "include/ferrule" / area / f"{stem}.hpp", tree.root / "include/ferrule" / f"{stem}.hpp"]
        candidates.append(path.with_suffix(".hpp"))
        # network_sending.cpp is a part of the network.
        if "_" in stem:
            whole = f"{stem.rsplit('_', 1)[0]}.hpp"
            candidates += [tree.root / "include/ferrule" / area / whole, path.with_name(whole)]
        if not any(candidate.exists() for candidate in candidates):
            violations.append(f"{tree.name(path)}:1: no header has this name")
    for path in tree.files("tests", suffixes=(".cpp",)):
        area = tree.area(path)
        if area not in FLOORS or path.parent == tree.root / "tests" or not path.stem.endswith("_test"):
            continue
        concepts = {header.stem for header in tree.files(f"include/ferrule/{area}", f"src/{area}")} | {area}
        stem = path.stem.removesuffix("_test")
        # connection_starvation_test.cpp is a test of the connection too.
        if not any(stem == concept or stem.startswith(concept + "_") for concept in concepts):
            violations.append(f"{tree.name(path)}:1: nothing in {area} has the name that this test begins with")
    return violations


_DESCRIBED_METRIC = re.compile(r'\{\s*"((?:ferrule|process)_[a-z0-9_]+)",')
_DOCUMENTED_METRIC = re.compile(r"`((?:ferrule|process)_[a-z0-9_]+)(?:\{[a-z_]+\})?`")
METRIC_PAGE = "docs/operations.md"


def metrics(tree):
    """Each metric that a header or a source describes (MetricOf) is in the first column of a table of docs/operations.md, and no other."""
    described = {}
    for path in tree.files("include", "src"):
        text = path.read_text()
        for match in _DESCRIBED_METRIC.finditer(text):
            described.setdefault(match[1], f"{tree.name(path)}:{text.count(chr(10), 0, match.start()) + 1}")
    page = tree.root / METRIC_PAGE
    documented = {}
    for number, line in enumerate(page.read_text().splitlines() if page.exists() else (), 1):
        if line.startswith("|"):
            for match in _DOCUMENTED_METRIC.finditer(line.split("|")[1]):
                documented.setdefault(match[1], f"{METRIC_PAGE}:{number}")
    violations = [f"{where}: {name} is not in the table of {METRIC_PAGE}" for name, where in described.items() if name not in documented]
    violations += [f"{where}: {name} is described nowhere" for name, where in documented.items() if name not in described]
    return violations


CHECKS = {
    "formatting": formatting,
    "floors": floors,
    "headers": headers,
    "coroutines": coroutines,
    "globals": globals_,
    "documentation": documentation,
    "unfinished": unfinished,
    "names": names,
    "metrics": metrics,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=pathlib.Path(__file__).parents[2], help="the source tree")
    parser.add_argument("--build", help="a build of it: for what is seen only in compiled code")
    parser.add_argument("--check", choices=CHECKS, action="append", help="default: all")
    options = parser.parse_args()
    tree = Tree(options.root, options.build)
    statuses = set()
    for name in options.check or CHECKS:
        try:
            violations = CHECKS[name](tree)
        except Skip as reason:
            print(f"tidy {name}: SKIPPED: {reason}")
            statuses.add(SKIPPED)
            continue
        for violation in violations:
            print(violation)
        print(f"tidy {name}: {len(violations)} violations" if violations else f"tidy {name}: ok")
        statuses.add(1 if violations else 0)
    # Where several checks ran, one that could not run is no failure.
    sys.exit(1 if 1 in statuses else SKIPPED if statuses == {SKIPPED} else 0)


if __name__ == "__main__":
    main()
