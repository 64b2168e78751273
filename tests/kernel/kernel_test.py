#!/usr/bin/env python3
"""Runs test programs under a kernel of Debian in emulation, one after the other. Where this cannot be done it says why and exits with 77."""

import argparse
import pathlib
import re
import sys

from machine import Machine

EXCLUDED = pathlib.Path(__file__).parent / "excluded.txt"


def exclusions(text):
    """The tests of excluded.txt. Its programs, which have no dot, are not built for this in the first place."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if "." in line and not line.startswith("#")]


def without(capabilities):
    """What the probe misses in this kernel, of the table that it begins with."""
    return re.findall(r"^ *no +(\S.*?) {2,}\S+", capabilities.split("\n\n")[0], re.MULTILINE)


def failures(output):
    """The tests of a program that failed, and where, by the lines of GoogleTest."""
    return re.findall(r"^(?:.+: Failure|\[  FAILED  \] \S+ \(\d+ ms\))$", output, re.MULTILINE)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    Machine.add_arguments(parser)
    parser.add_argument("--without", default="", help="GoogleTest patterns of tests of later tiers, joined by colons")
    parser.add_argument("--probe", type=pathlib.Path, required=True, help="tools/doctor, for what the kernel lacks")
    parser.add_argument("--files", type=pathlib.Path, nargs="*", default=[], help="programs that tests start")
    parser.add_argument("--programs", type=pathlib.Path, nargs="+", required=True)
    arguments = parser.parse_args()
    excluded = [*exclusions(EXCLUDED.read_text()), *filter(None, arguments.without.split(":"))]
    options = f"--gtest_brief=1 --gtest_color=no --gtest_filter=-{':'.join(excluded)}"
    programs = [arguments.probe, *arguments.programs]
    commands = [arguments.probe.name, *(f"{program.name} {options}" for program in arguments.programs)]
    run = Machine.from_arguments(arguments).run(programs, commands, arguments.files)

    failed = [program.name for program in programs if run.result(program.name)[0] != 0]
    if failed or not run.ended:
        print(run.output)
        for name in failed:
            for line in failures(run.result(name)[1]):
                print(f"{name}: {line}")
        print(f"under {run.kernel}: failed or not ended: {', '.join(failed) or 'the machine'}")
        sys.exit(1)
    passed = sum(int(count) for count in re.findall(r"\[  PASSED  \] (\d+) test", run.output))
    if passed == 0:
        sys.exit(f"under {run.kernel}: no test was run")
    for reason in sorted(set(re.findall(r": Skipped\n(.+)", run.output))):
        print(f"skipped under {run.kernel}: {reason}")
    print(f"without: {', '.join(without(run.result(arguments.probe.name)[1])) or 'nothing'}")
    kernel = re.search(r"^KERNEL (.+)$", run.output, re.MULTILINE)
    print(f"Linux {kernel[1]}: {passed} tests of {len(arguments.programs)} programs passed")


if __name__ == "__main__":
    main()
