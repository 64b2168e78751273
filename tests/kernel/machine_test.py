#!/usr/bin/env python3
"""Holds what the tests under other kernels stand on: which kernel is taken, what the file system has, and what counts as an end."""

import pathlib
import tempfile
import unittest

import machine
from kernel_test import exclusions, failures, without


class ArchiveOf(machine.Archive):
    """An archive with these packages."""

    def __init__(self, *names):
        self.names = names

    def apt(self, program, *arguments):
        return "\n".join(self.names)


class WhichKernel(unittest.TestCase):
    def test_the_newest_by_number_is_taken(self):
        archive = ArchiveOf("linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-amd64")
        self.assertEqual(archive.newest(r"6[.]1[.]0-\d+-cloud-amd64"), "linux-image-6.1.0-56-cloud-amd64")

    def test_the_package_that_has_the_kernel_is_taken(self):
        archive = ArchiveOf("linux-image-7.2.1-amd64", "linux-binary-7.2.1-amd64", "linux-image-6.18.3-amd64", "linux-modules-7.2.1-amd64")
        self.assertEqual(archive.newest(r"\d+[.]\d+[.]\d+-amd64"), "linux-binary-7.2.1-amd64")

    def test_none_is_none(self):
        self.assertIsNone(ArchiveOf("linux-image-6.1.0-9-amd64").newest(r"6[.]12[.]\d+-amd64"))
        self.assertIsNone(ArchiveOf().newest(".*"))

    def test_the_public_mirror_is_always_asked(self):
        self.assertIn("http://deb.debian.org/debian", machine.mirrors("debian"))


def entries(archive):
    """(name, mode, data) of each file in an archive of the format newc."""
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        at += (110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return
        yield name, mode, archive[at : at + size]
        at += (size + 3) // 4 * 4


class TheFileSystem(unittest.TestCase):
    def test_folders_come_before_what_is_in_them(self):
        system = machine.FileSystem("strip")
        system.add("a/b/c", b"content")
        system.add("a/b/d", b"")
        with tempfile.TemporaryDirectory() as folder:
            archive = pathlib.Path(folder) / "archive"
            system.write(archive)
            found = list(entries(archive.read_bytes()))
        names = [name for name, _, _ in found]
        self.assertEqual([name for name in names if name.startswith("a")], ["a", "a/b", "a/b/c", "a/b/d"])
        self.assertEqual(len(names), len(set(names)))
        self.assertIn(("a/b/c", 0o100755, b"content"), found)
        self.assertIn(("a/b", 0o040755, b""), found)

    def test_what_a_program_loads_comes_along(self):
        system = machine.FileSystem("strip")
        program = pathlib.Path("/proc/self/exe").resolve()
        system.add_program("programs/python", program)
        self.assertEqual(system.entries["programs/python"][1][:4], b"\x7fELF")
        for library in machine.libraries(program):
            self.assertTrue(any(pathlib.PurePath(name).name == pathlib.PurePath(library).name for name in system.entries), library)


class WhatCountsAsAnEnd(unittest.TestCase):
    OUTPUT = (
        "KERNEL 6.1\nBEGIN good\nsaid\n\nEND good 0\nBEGIN bad\nEND of the story\n\nEND bad 139\nBEGIN lost\nKernel panic - not syncing\n"
    )

    def test_status_and_output_of_each(self):
        run = machine.Run("6.1", self.OUTPUT)
        self.assertEqual(run.result("good"), (0, "said\n\n"))
        self.assertEqual(run.result("bad"), (139, "END of the story\n\n"))

    def test_a_panic_ends_nothing(self):
        run = machine.Run("6.1", self.OUTPUT)
        self.assertEqual(run.result("lost"), (None, "Kernel panic - not syncing\n"))
        self.assertEqual(run.result("never"), (None, ""))
        self.assertFalse(run.ended)
        self.assertTrue(machine.Run("6.1", self.OUTPUT + "ALL COMMANDS DONE\n").ended)


class WhatIsToldOfAFailure(unittest.TestCase):
    def test_the_tests_and_the_places(self):
        output = "noise\na.cpp:3: Failure\nwords\n[  FAILED  ] Suite.Test (12 ms)\n[  FAILED  ] 1 test, listed below:\n[  FAILED  ] Suite.Test\n"
        self.assertEqual(failures(output), ["a.cpp:3: Failure", "[  FAILED  ] Suite.Test (12 ms)"])


class WhatIsToldOfAKernel(unittest.TestCase):
    def test_capabilities_that_it_lacks(self):
        table = "io_uring: 49 operations\n  yes  buffer rings                5.19\n  no   bind and listen             6.11  system calls\n\n  no     other\n"
        self.assertEqual(without(table), ["bind and listen"])

    def test_excluded_tests(self):
        self.assertEqual(exclusions("# a.b\n\nring_*\nSuite.Test\nSuite.*\n"), ["Suite.Test", "Suite.*"])


if __name__ == "__main__":
    unittest.main()
