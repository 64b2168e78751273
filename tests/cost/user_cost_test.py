#!/usr/bin/env python3
"""What a request costs in user space, in instructions: Ferrule's over the raw loop's, on a kernel that does nothing, under callgrind.

The count is repeatable on any machine, so this is the gate that a loaded machine cannot blur. The budget is in budget.json; an
improvement is recorded there with --record. Exit 77: skipped, with the reason.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SHAPES = {"64 connections": (64, 1), "512 connections": (512, 1), "64 connections, 16 deep": (64, 16)}
FEW, MANY = 20_000, 60_000
TOLERANCE = 1.02  # other versions of libc and of the compiler's last patch level


def instructions(program, kind, connections, depth, requests):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", program, kind, str(connections), str(depth),
             str(requests)], capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"{program} {kind}: exit {done.returncode}\n{done.stderr}")
    return int(found.group(1))


def per_request(program, kind, connections, depth):
    few = instructions(program, kind, connections, depth, FEW)
    many = instructions(program, kind, connections, depth, MANY)
    return (many - few) / (MANY - FEW)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--compiler", required=True, help="id and major version, as in budget.json")
    parser.add_argument("--record", action="store_true", help="write the measured values into budget.json")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("skipped: valgrind is not installed")
        return 77
    path = pathlib.Path(__file__).with_name("budget.json")
    budgets = json.loads(path.read_text())
    budget = budgets.get(arguments.compiler)
    if budget is None and not arguments.record:
        print(f"skipped: no budget is recorded for {arguments.compiler}; record one with --record")
        return 77
    failed = False
    measured = {}
    for name, (connections, depth) in SHAPES.items():
        raw = per_request(arguments.program, "raw", connections, depth)
        ferrule = per_request(arguments.program, "ferrule", connections, depth)
        measured[name] = round(ferrule - raw, 1)
        line = f"{name}: raw {raw:.1f}, ferrule {ferrule:.1f}, over raw {ferrule - raw:.1f} instructions per request"
        if budget is not None:
            allowed = budget[name] * TOLERANCE
            line += f", budget {budget[name]}"
            if ferrule - raw > allowed:
                failed = True
                line += "  OVER BUDGET"
        print(line)
    if arguments.record:
        budgets[arguments.compiler] = measured
        path.write_text(json.dumps(budgets, indent=2) + "\n")
        return 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
