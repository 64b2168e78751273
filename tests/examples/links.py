#!/usr/bin/env python3
"""Checks that the links between the pages, and from them to sources, lead somewhere: the file exists, and so does the heading behind the #, or the test."""

import argparse
import pathlib
import re
import sys

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A test of GoogleTest, and the file that it is said to be in.
TEST = re.compile(r"\[`(\w+)\.(\w+)`\]\(([^)\s#]+_test\.cpp)\)")
# Outside the repository, and so not looked at.
ELSEWHERE = re.compile(r"[a-z]+:")
# What a benchmark run writes; it may not have been run yet.
GENERATED = {"docs/performance/results.md", "docs/performance/results.svg"}


def pages(root):
    return sorted(root.glob("*.md")) + sorted(root.glob("docs/**/*.md"))


def prose(path):
    """The numbered lines that are not in a block of code, without the code in them."""
    in_block = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_block = not in_block
        elif not in_block:
            yield number, line


def anchors(path):
    """The headings of a page as its links name them: lower case, words joined by hyphens, without punctuation."""
    found = set()
    for _, line in prose(path):
        if heading := re.match(r"#{1,6}\s+(.*?)\s*#*$", line):
            text = LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading[1])
            anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            repeated = sum(1 for other in found if other == anchor or other.startswith(anchor + "-") and other[len(anchor) + 1 :].isdigit())
            found.add(f"{anchor}-{repeated}" if repeated else anchor)
    return found


def check(root):
    errors = []
    generated = {(root / name).resolve() for name in GENERATED}
    for page in pages(root):
        for number, line in prose(page):
            for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
                if ELSEWHERE.match(target):
                    continue
                file, _, anchor = target.partition("#")
                path = (page.parent / file).resolve() if file else page
                if not path.exists() and path not in generated:
                    what = "there is no such file"
                elif anchor and path.suffix == ".md" and anchor not in anchors(path):
                    what = "the page has no such heading"
                else:
                    continue
                errors.append(f"{page.relative_to(root).as_posix()}:{number}: {target}: {what}")
            errors += missing_tests(root, page, number, line)
    return errors


def missing_tests(root, page, number, line):
    for suite, name, target in TEST.findall(line):
        file = page.parent / target
        if file.exists() and not re.search(rf"TEST(_F|_P)?\({suite}, {name}\)", file.read_text()):
            yield f"{page.relative_to(root).as_posix()}:{number}: {target}: it has no test {suite}.{name}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2], help="the source tree")
    errors = check(parser.parse_args().root.resolve())
    for error in errors:
        print(error)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
