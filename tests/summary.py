#!/usr/bin/env python3
"""Prints what one run of ctest amounts to: tests per preset, what failed, and why tests were skipped. Reads ctest's JUnit file."""

import collections
import re
import sys
import xml.etree.ElementTree as ElementTree

OUTCOMES = {"run": "passed", "fail": "failed", "notrun": "skipped", "disabled": "disabled"}
# Of a test that failed: its last words, which name what was wrong where the whole output is out of sight.
LAST_LINES = 8
# GoogleTest prints "file:line: Skipped", then the reason on the next line; command tests print "SKIPPED: reason".
SKIP_REASON = re.compile(r"(?:: Skipped\n|SKIPPED: )(.+)")


def main():
    counts = collections.defaultdict(collections.Counter)
    failed = {}
    skipped = collections.defaultdict(list)
    for case in ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
        name = case.get("name")
        outcome = OUTCOMES.get(case.get("status"), case.get("status"))
        counts[name.split("/")[0]][outcome] += 1
        if outcome == "failed":
            failed[name] = [line for line in (case.findtext("system-out") or "").splitlines() if line.strip()][-LAST_LINES:]
        if outcome == "skipped":
            found = SKIP_REASON.search(case.findtext("system-out") or "")
            skipped[found.group(1).strip() if found else "no reason given"].append(name)

    print("\nsummary")
    for preset, outcomes in counts.items():
        listed = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items(), key=lambda item: item[0] != "passed"))
        print(f"  {preset:<12} {listed}")
    for reason, names in skipped.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        print(f"  skipped      {names[0]}{others}: {reason}")
    for name, lines in failed.items():
        print(f"  FAILED       {name}")
        for line in lines:
            print(f"               | {line}")


main()
