#!/usr/bin/env python3
"""Holds ./ferrule to what it says: help, errors, and how it installs packages, with stand-ins for the system's programs."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
COMMANDS = ("serve", "test", "bench", "sim", "doctor", "format", "tidy", "help")
# What every Debian has, and the script uses before anything is installed.
BASE = ("bash", "env", "dirname", "readlink", "basename", "sed", "awk", "grep", "sort", "head", "tail", "paste", "cat", "uname", "id", "nproc",
        "tee", "chmod", "rm", "mkdir", "getconf", "perl")  # fmt: skip


class Ferrule(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.programs = self.folder / "bin"
        self.programs.mkdir()
        self.log = self.folder / "log"
        self.log.write_text("")

    def run_it(self, *arguments, path=None, cwd="/"):
        environment = dict(os.environ, **({"PATH": str(path)} if path else {}))
        environment.pop("CXX", None)
        return subprocess.run(
            [ROOT / "ferrule", *arguments], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def bare_machine(self):
        """A PATH with what a fresh Debian has and nothing that Ferrule needs."""
        for name in BASE:
            found = shutil.which(name)
            if found:
                (self.programs / name).symlink_to(found)
        return self.programs

    def stand_in(self, name, body):
        """A program that notes how it was called, then runs `body`."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.log}"\n{body}\n')
        path.chmod(0o755)

    def calls(self):
        return self.log.read_text().splitlines()

    def test_help_lists_every_command_and_each_has_help(self):
        result = self.run_it()
        self.assertEqual(result.returncode, 0)
        for command in COMMANDS:
            self.assertIn(f"    {command} ", result.stdout)
            shown = self.run_it(command, "--help")
            self.assertEqual(shown.returncode, 0, shown.stderr)
            self.assertIn("usage: ./ferrule", shown.stdout)

    def test_unknown_command_is_an_error(self):
        result = self.run_it("sing")
        self.assertEqual(result.returncode, 1)
        self.assertIn("unknown command sing", result.stderr)

    def test_unknown_sample_lists_the_samples(self):
        result = self.run_it("serve", "nothing")
        self.assertEqual(result.returncode, 1)
        self.assertIn("there is no sample nothing", result.stderr)
        for sample in (ROOT / "playground").glob("*.cpp"):
            self.assertIn(sample.stem, result.stderr)

    def test_works_through_a_link_from_any_folder(self):
        link = self.folder / "link"
        link.symlink_to(ROOT / "ferrule")
        result = subprocess.run([link, "help"], cwd=self.folder, capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0)
        for sample in (ROOT / "playground").glob("*.cpp"):
            self.assertIn(sample.stem, result.stdout)

    def test_no_install_refuses_with_the_list(self):
        self.bare_machine()
        self.stand_in("apt-get", "")
        result = self.run_it("serve", "--no-install", path=self.programs)
        self.assertEqual(result.returncode, 1)
        for package in ("g++", "cmake", "ninja-build"):
            self.assertIn(package, result.stderr)
        self.assertIn("--no-install", result.stderr)
        self.assertEqual(self.calls(), [])

    def test_without_apt_it_says_what_to_install(self):
        self.bare_machine()
        result = self.run_it("serve", path=self.programs)
        self.assertEqual(result.returncode, 1)
        self.assertIn("no apt-get here", result.stderr)
        self.assertIn("ninja-build", result.stderr)

    def test_root_updates_then_installs_what_is_missing(self):
        self.bare_machine()
        self.stand_in("id", "echo 0")
        self.stand_in("apt-get", "")
        self.stand_in("apt-cache", "echo '  Candidate: 1.0'")
        self.stand_in("ninja", "")
        result = self.run_it("serve", path=self.programs)
        calls = [call for call in self.calls() if call.startswith("apt-get")]
        self.assertEqual(len(calls), 2, calls)
        self.assertTrue(calls[0].endswith("update"), calls)
        self.assertTrue(calls[1].endswith("install -y --no-install-recommends g++ cmake"), calls)
        self.assertIn("installing packages", result.stdout)
        self.assertIn("the compiler", result.stdout)

    def test_others_install_through_sudo_and_a_failure_is_one(self):
        self.bare_machine()
        self.stand_in("id", "echo 1000")
        self.stand_in("sudo", "exec \"$@\"")
        self.stand_in("apt-get", "[[ $* != *install* ]]")
        result = self.run_it("serve", path=self.programs)
        self.assertEqual(result.returncode, 1)
        self.assertIn("could not install", result.stderr)
        self.assertEqual(len([call for call in self.calls() if call.startswith("sudo env DEBIAN_FRONTEND=noninteractive apt-get")]), 2)

    def test_neither_root_nor_sudo_is_said(self):
        self.bare_machine()
        self.stand_in("id", "echo 1000")
        self.stand_in("apt-get", "")
        result = self.run_it("serve", path=self.programs)
        self.assertEqual(result.returncode, 1)
        self.assertIn("neither root nor sudo", result.stderr)

    def test_packages_that_only_some_tests_need_may_be_absent(self):
        self.bare_machine()
        self.stand_in("id", "echo 0")
        self.stand_in("apt-get", "")
        self.stand_in("apt-cache", '[[ $2 == valgrind ]] && echo "  Candidate: (none)" || echo "  Candidate: 1.0"')
        result = self.run_it("test", path=self.programs)
        self.assertIn("valgrind is not to be had here", result.stdout)
        install = [call for call in self.calls() if " install " in call]
        self.assertEqual(len(install), 1)
        self.assertIn("libgtest-dev", install[0])
        self.assertIn("clang-format-14", install[0])
        self.assertNotIn("valgrind", install[0])

    def test_a_package_with_two_uses_is_installed_once(self):
        self.bare_machine()
        self.stand_in("id", "echo 0")
        self.stand_in("uname", "echo x86_64")
        self.stand_in("apt-get", "")
        self.stand_in("apt-cache", "echo '  Candidate: 1.0'")
        self.run_it("test", "--full", path=self.programs)
        install = next(call for call in self.calls() if " install " in call).split()
        for package in ("qemu-system-x86", "qemu-system-arm", "g++-aarch64-linux-gnu", "clang-19"):
            self.assertEqual(install.count(package), 1, package)

    def test_doctor_explains(self):
        self.bare_machine()
        for error, explanation in ((1, "EPERM"), (12, "ENOMEM"), (38, "ENOSYS")):
            self.stand_in("perl", f"echo {error}")
            result = self.run_it("doctor", path=self.programs)
            self.assertEqual(result.returncode, 1)
            self.assertIn(explanation, result.stdout)

    def test_doctor_refuses_old_kernels(self):
        self.bare_machine()
        self.stand_in("uname", "[ $1 = -r ] && echo 5.15.0-91-generic || echo x86_64")
        result = self.run_it("doctor", path=self.programs)
        self.assertEqual(result.returncode, 1)
        self.assertIn("6.1 is the oldest", result.stdout)

    def test_unknown_options_and_a_second_filter_are_errors(self):
        self.assertIn("unknown option --fast", self.run_it("test", "--fast").stderr)
        self.assertIn("one filter only", self.run_it("test", "net", "ring").stderr)
        self.assertIn("--full has them", self.run_it("test", "--kernels", "--full").stderr)


if __name__ == "__main__":
    unittest.main()
