#!/usr/bin/env python3
"""Builds and runs the complete program of docs/simulation.md, and the same with an error in its handler, which it must find.

    documentation_test.py ROOT COMPILER LIBRARY...
"""

import pathlib
import subprocess
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "examples"))
import examples  # noqa: E402

RIGHT = "for (std::byte byte : slice) connection.write(std::array{byte, byte});"
WRONG = "connection.write(slice), connection.write(slice);"


def build_and_run(program, root, compiler, libraries):
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "program.cpp"
        source.write_text(program)
        executable = pathlib.Path(folder) / "program"
        subprocess.run(
            [compiler, "-std=c++23", "-O1", f"-I{root}/include", source, *libraries, "-pthread", "-o", executable], check=True
        )
        return subprocess.run([executable], capture_output=True, text=True)


def main():
    root, compiler, *libraries = sys.argv[1:]
    found, _ = examples.find_examples(pathlib.Path(root))
    programs = [example.text for example in found if example.name == "docs/simulation.md" and example.is_program]
    if len(programs) != 1:
        sys.exit(f"docs/simulation.md has {len(programs)} complete programs, not one")
    program = programs[0]
    ended = build_and_run(program, root, compiler, libraries)
    if ended.returncode != 0:
        sys.exit(f"the program of docs/simulation.md ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    if program.count(RIGHT) != 1:
        sys.exit("the program of docs/simulation.md has changed, and this test must break its handler in another way")
    ended = build_and_run(program.replace(RIGHT, WRONG), root, compiler, libraries)
    if ended.returncode != 1 or not ended.stdout.startswith("seed "):
        sys.exit(f"a wrong handler was not found: {ended.returncode}:\n{ended.stdout}{ended.stderr}")


if __name__ == "__main__":
    main()
