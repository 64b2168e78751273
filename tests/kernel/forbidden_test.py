#!/usr/bin/env python3
"""Where io_uring is forbidden, a server, the probe and `./ferrule doctor` end with status 1 and say who forbids it and what to do:

    forbidden_test.py ... seccomp ...    here, under the seccomp filter of a container runtime, as newer and older ones answer
    forbidden_test.py ... sysctl ...     in a machine whose kernel has kernel.io_uring_disabled=2
"""

import argparse
import pathlib
import subprocess
import sys

from machine import SKIPPED, Machine, skip

SWITCH = pathlib.Path("/proc/sys/kernel/io_uring_disabled")
CALLS = ("io_uring_setup", "io_uring_enter", "io_uring_register")
REMEDY = (*CALLS, "--security-opt seccomp=PROFILE.json", "--security-opt seccomp=unconfined", "docs/kernels.md")
# What each must say, by what io_uring_setup answers.
UNDER_SECCOMP = {
    "EPERM": ("Operation not permitted", "the seccomp filter of this process forbids io_uring", "Docker and containerd", *REMEDY),
    "ENOSYS": ("Function not implemented", "a seccomp filter hides io_uring", *REMEDY, "without io_uring", "Linux 6.1"),
}
DOCTOR_UNDER_SECCOMP = {
    "EPERM": ("EPERM", "a seccomp filter is active", "Docker and containerd", *REMEDY),
    "ENOSYS": ("ENOSYS", "a seccomp filter hides it", *REMEDY, "without CONFIG_IO_URING"),
}
UNDER_SYSCTL = ("Operation not permitted", "kernel.io_uring_disabled is 2", "nobody", "sudo sysctl kernel.io_uring_disabled=0")
SERVER_ARGUMENTS = ("--port", "0", "--reactors", "1")
SECONDS = 60


def complaints(who, status, output, expected):
    """What is wrong with how a program ended."""
    found = [f"{who}: ended with status {status}, not 1"] if status != 1 else []
    found += [f"{who}: does not say: {words}" for words in expected if words not in output]
    return [*found, f"{who} said:\n{output}"] if found else []


def under_seccomp(arguments):
    if SWITCH.exists() and SWITCH.read_text().strip() != "0":
        skip("io_uring is forbidden here already: kernel.io_uring_disabled is not 0")
    found = []
    for error, expected in UNDER_SECCOMP.items():
        commands = {
            "the server": ((arguments.server, *SERVER_ARGUMENTS), expected),
            "the probe": ((arguments.probe,), expected),
            "./ferrule doctor": ((arguments.script, "doctor"), DOCTOR_UNDER_SECCOMP[error]),
        }
        for who, (command, words) in commands.items():
            ended = subprocess.run(
                [arguments.forbid, error, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
            )
            if ended.returncode == SKIPPED:
                print(ended.stdout)
                sys.exit(SKIPPED)
            found += complaints(f"{who} under {error}", ended.returncode, ended.stdout + ended.stderr, words)
    return found


def under_sysctl(arguments):
    programs = (arguments.server, arguments.probe)
    commands = (" ".join((arguments.server.name, *SERVER_ARGUMENTS)), arguments.probe.name)
    run = Machine.from_arguments(arguments).run(programs, commands, settings=("sysctl.kernel.io_uring_disabled=2",))
    if not run.ended:
        return [run.output, f"under {run.kernel}: the machine did not end as it should"]
    return [line for program in programs for line in complaints(program.name, *run.result(program.name), UNDER_SYSCTL)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=pathlib.Path, required=True, help="the playground's plaintext")
    parser.add_argument("--probe", type=pathlib.Path, required=True, help="tools/doctor")
    ways = parser.add_subparsers(required=True)
    seccomp = ways.add_parser("seccomp")
    seccomp.add_argument("--forbid", type=pathlib.Path, required=True, help="the program forbid.cpp")
    seccomp.add_argument("--script", type=pathlib.Path, required=True, help="./ferrule")
    seccomp.set_defaults(run=under_seccomp)
    sysctl = ways.add_parser("sysctl")
    Machine.add_arguments(sysctl)
    sysctl.set_defaults(run=under_sysctl)
    arguments = parser.parse_args()
    found = arguments.run(arguments)
    print("\n".join(found))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
