#!/usr/bin/env python3
"""The USDT probes are in a program as docs/operations.md lists them, with as many arguments. Exit 77: skipped, with the reason."""

import pathlib
import re
import shutil
import subprocess
import sys


def main():
    program, page = sys.argv[1], pathlib.Path(sys.argv[2]).read_text()
    if shutil.which("readelf") is None:
        print("SKIPPED: readelf is not installed")
        return 77
    listed = {name: text.count("`") // 2 for name, text in re.findall(r"^\| `ferrule:(\w+)` \| ([^|]*) \|", page, re.MULTILINE)}
    notes = subprocess.run(["readelf", "-n", "-W", program], capture_output=True, text=True, check=True).stdout
    built = {}
    for name, arguments in re.findall(r"Provider: ferrule\s+Name: (\w+)\s+Location: .*\n\s+Arguments: ?(.*)", notes):
        built[name] = len(arguments.split())
    if not built:
        print("no probes: built without sys/sdt.h, or with FERRULE_PROBES=OFF")
    if built != listed:
        print(f"the page lists (with numbers of arguments) {listed}, the program has {built}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
