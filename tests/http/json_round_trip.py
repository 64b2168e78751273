#!/usr/bin/env python3
"""json_round_trip.py <json_samples>: reads its random texts with Python's own parser, and wants what was written.

Python replaces what is not UTF-8 as Unicode recommends, one U+FFFD for each maximal part, so it is also the model of that.
"""

import json
import struct
import subprocess
import sys


def text(digits):
    return bytes.fromhex(digits).decode("utf-8", errors="replace")


def refuse(name):
    raise ValueError(f"{name} is no JSON")


def main():
    lines = subprocess.run([sys.argv[1]], stdout=subprocess.PIPE, check=True).stdout.decode("utf-8").split("\n")
    assert lines.pop() == "" and len(lines) % 2 == 0 and len(lines) > 1000, len(lines)
    names = {"text": text, "fraction": float.fromhex}
    for said, written in zip(lines[::2], lines[1::2]):
        expected = eval(said, {"__builtins__": {}}, names)  # our own words
        # Integers that a fraction happens to be (1e+22) are read as fractions, or as equal integers.
        got = json.loads(written, parse_constant=refuse)
        if got != expected:
            sys.exit(f"written: {written}\nread: {got!r}\nexpected: {expected!r}")
        fraction = said.startswith("fraction")
        if fraction and len(written) > len(repr(expected).replace("e-0", "e-")) + 1:
            sys.exit(f"{written} is not the shortest: {expected!r}, {struct.pack('<d', expected).hex()}")
    print(f"{len(lines) // 2} texts")


main()
