#!/usr/bin/env python3
"""Holds dist/container/Containerfile to what can be shown without a container engine: its instructions have their form, what it copies is there, its
packages exist, and its build commands work in a folder that has what it copies and nothing else.

    container_test.py [--build]      --build: also compiles, and runs what came out
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "dist/container/Containerfile"
BUILD = "--build" in sys.argv
INSTRUCTIONS = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
SECONDS = 1200


def instructions():
    """(instruction, its words) of the file, with lines that end in a backslash joined."""
    text = re.sub(r"\\\n\s*", " ", FILE.read_text())
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


def arguments():
    return dict(words.split("=", 1) for instruction, words in instructions() if instruction == "ARG")


def expanded(text):
    return re.sub(r"\$\{(\w+)\}", lambda name: arguments()[name[1]], text)


def stages():
    """The instructions of each stage."""
    found = []
    for instruction, words in instructions():
        if instruction == "FROM":
            found.append([])
        if found:
            found[-1].append((instruction, expanded(words)))
    return found


def packages(stage):
    return [
        name
        for instruction, words in stage if instruction == "RUN"
        for command in words.split("&&") if "apt-get install" in command
        for name in command.split()[2:] if not name.startswith("-")
    ]  # fmt: skip


class Containerfile(unittest.TestCase):
    def test_instructions_have_their_form(self):
        for instruction, words in instructions():
            self.assertIn(instruction, INSTRUCTIONS)
            self.assertEqual(set(re.findall(r"\$\{(\w+)\}", words)) - arguments().keys(), set(), "an ARG that is not there")
        self.assertEqual(len(stages()), 2)
        self.assertEqual(stages()[0][0][1], "debian:bookworm-slim AS build")
        last = dict(stages()[1])
        for key in ("ENTRYPOINT", "CMD"):
            self.assertRegex(last[key], r'^\[".*"\]$')  # no shell between the engine's signals and the server
        self.assertNotIn(last["USER"], ("0", "root"))
        self.assertIn("COPY", last)
        self.assertIn("--from=build", last["COPY"])

    def test_what_is_copied_is_there(self):
        for instruction, words in stages()[0]:
            if instruction == "COPY":
                for source in words.split()[:-1]:
                    self.assertTrue((ROOT / source).exists(), source)

    def test_packages_exist(self):
        if not shutil.which("apt-cache"):
            self.skipTest("no apt-cache here")
        wanted = [name for stage in stages() for name in packages(stage)]
        self.assertIn("g++", wanted)
        self.assertIn("libstdc++6", wanted)
        for name in wanted:
            told = subprocess.run(["apt-cache", "policy", name], capture_output=True, text=True, check=False).stdout
            if not told:
                self.skipTest("apt has no lists here")
            self.assertRegex(told, r"Candidate: \d", name)

    def test_its_commands_work_in_a_folder_of_their_own(self):
        if not shutil.which("cmake") or not shutil.which("ninja"):
            self.skipTest("cmake and ninja build it")
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            source = folder / "source"
            source.mkdir()
            for instruction, words in stages()[0]:
                if instruction != "COPY":
                    continue
                *sources, target = words.split()
                for path in sources:
                    if (ROOT / path).is_dir():
                        shutil.copytree(ROOT / path, source / target)
                    else:
                        shutil.copy(ROOT / path, source / target)
            ran = []
            for instruction, words in stages()[0]:
                if instruction != "RUN" or "apt-get" in words:
                    continue
                command = re.sub(r"/(build|stage)\b", lambda path: f"{folder}/{path[1]}", words)
                if "--build" in command and not BUILD:
                    command += " -- -n"  # whether there is such a target, and a way to make it
                if "install " in command and not BUILD:
                    continue
                environment = dict(os.environ, CMAKE_CXX_COMPILER_LAUNCHER="ccache") if shutil.which("ccache") else None
                ended = subprocess.run(
                    ["bash", "-c", command], cwd=source, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
                )
                self.assertEqual(ended.returncode, 0, f"{command}\n{ended.stdout}{ended.stderr}")
                ran.append(command)
            self.assertTrue(any("cmake --build" in command for command in ran))
            if BUILD:
                self.run_what_was_built(folder / "stage/usr/local/bin")

    def run_what_was_built(self, programs):
        told = subprocess.run([programs / "ferrule-doctor"], capture_output=True, text=True, timeout=60, check=False)
        self.assertIn("Ferrule can run here", told.stdout)
        # Of the libraries that it needs, the last stage has all: those of the base image, and of the package that it installs.
        needs = subprocess.run(["ldd", programs / "server"], capture_output=True, text=True, check=True).stdout
        names = {line.split()[0].split("/")[-1] for line in needs.splitlines()}
        self.assertLessEqual({name for name in names if name.startswith("lib")}, {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6"})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
