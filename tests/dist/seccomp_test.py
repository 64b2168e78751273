#!/usr/bin/env python3
"""Holds dist/seccomp to what it says: under each profile the programs of the playground serve, and what it is to forbid is forbidden.

    seccomp_test.py COMPILER CONFINE PLAYGROUND PROBE
"""

import pathlib
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

import profile as seccomp

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77
SECONDS = 60
COMPILER, CONFINE, PLAYGROUND, PROBE = sys.argv[1:5] if len(sys.argv) > 4 else ("c++", "", "", "")
GENERAL = ROOT / "dist/seccomp/ferrule.json"
MINIMAL = ROOT / "dist/seccomp/ferrule-minimal.json"
IO_URING = {"io_uring_setup", "io_uring_enter", "io_uring_register"}
# What no container without privileges should have, whatever profile it runs under.
PRIVILEGED = {
    "acct", "add_key", "bpf", "chroot", "clock_settime", "delete_module", "finit_module", "fsmount", "init_module", "ioperm", "iopl", "kcmp",
    "kexec_file_load", "kexec_load", "keyctl", "mount", "move_mount", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root",
    "process_vm_readv", "process_vm_writev", "ptrace", "quotactl", "reboot", "request_key", "setns", "sethostname", "settimeofday", "swapon",
    "syslog", "umount2", "unshare", "userfaultfd",
}  # fmt: skip


class Seccomp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.numbers = seccomp.system_calls(COMPILER)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.rules = {}
        for path in (GENERAL, MINIMAL):
            cls.rules[path] = cls.folder / (path.stem + ".rules")
            cls.rules[path].write_text("\n".join(seccomp.rules(seccomp.read(path), cls.numbers)) + "\n")
        # What installs a filter cannot be run within another that forbids it.
        if subprocess.run([CONFINE, cls.rules[GENERAL], "/bin/true"], capture_output=True, check=False).returncode == SKIPPED:
            print("SKIPPED: no seccomp filter can be installed here")
            sys.exit(SKIPPED)

    def confined(self, path, *command, **options):
        return subprocess.run(
            [CONFINE, self.rules[path], *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False, **options
        )

    def serve(self, path, program, *arguments):
        """A program of the playground under the profile: the port that it says it listens on."""
        server = subprocess.Popen(
            [CONFINE, self.rules[path], f"{PLAYGROUND}/{program}", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        self.addCleanup(self.end, server)
        said = []
        for line in server.stdout:
            said.append(line)
            port = re.search(r":(\d+)\s*$", line.replace("/", ""))
            if port:
                return server, int(port[1])
        self.fail(f"{program} under {path.name}: {''.join(said)}")

    def end(self, server):
        if server.poll() is None:
            server.kill()
        server.wait()
        server.stdout.close()

    def exchange(self, port, message, expected):
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            client.settimeout(SECONDS)
            client.sendall(message)
            received = b""
            while len(received) < len(expected):
                piece = client.recv(65536)
                if not piece:
                    break
                received += piece
        self.assertEqual(received[: len(expected)], expected)

    def test_profiles_have_their_form(self):
        for path in (GENERAL, MINIMAL):
            self.assertEqual(seccomp.faults(seccomp.read(path)), [], path.name)

    def test_profiles_allow_io_uring_and_nothing_privileged(self):
        for path in (GENERAL, MINIMAL):
            allowed = seccomp.names(seccomp.read(path))
            self.assertLessEqual(IO_URING, allowed)
            self.assertEqual(allowed & PRIVILEGED, set())
        self.assertLess(seccomp.names(seccomp.read(MINIMAL)), seccomp.names(seccomp.read(GENERAL)) | {"arch_prctl"})

    def test_servers_serve_and_end_in_order(self):
        for path in (GENERAL, MINIMAL):
            with self.subTest(profile=path.name):
                server, port = self.serve(path, "plaintext", "--host", "127.0.0.1", "--port", "0", "--reactors", "2")
                for _ in range(20):
                    self.exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n")
                server.terminate()
                self.assertEqual(server.wait(SECONDS), 0)

    def test_a_proxy_connects_and_resolves(self):
        for path in (GENERAL, MINIMAL):
            with self.subTest(profile=path.name):
                _, behind = self.serve(path, "echo", "--host", "127.0.0.1", "--port", "0", "--reactors", "1")
                _, port = self.serve(path, "proxy-tcp", "--host", "127.0.0.1", "--port", "0", "--reactors", "1", "--to", f"localhost:{behind}")
                self.exchange(port, b"through and back", b"through and back")

    def test_the_probe_finds_what_it_finds_without(self):
        expected = subprocess.run([PROBE, "--json"], capture_output=True, text=True, timeout=SECONDS, check=False).stdout
        for path in (GENERAL, MINIMAL):
            self.assertEqual(self.confined(path, PROBE, "--json").stdout, expected, path.name)

    @unittest.skipUnless(shutil.which("perl"), "perl makes the calls")
    def test_what_is_forbidden_is_forbidden(self):
        script = "my $result = syscall(@ARGV); print $result < 0 ? $! + 0 : 0"
        refused = 1
        absent = 38
        new_namespace = 0x10000000
        calls = [
            ("ptrace", (0, 0, 0, 0), refused), ("bpf", (0, 0, 0), refused), ("unshare", (new_namespace,), refused),
            ("clone", (new_namespace | 17, 0, 0, 0, 0), refused), ("clone3", (0, 0), absent), ("socket", (40, 1, 0), refused),
            ("personality", (0x0040000,), refused),
        ]  # fmt: skip
        for path in (GENERAL, MINIMAL):
            for name, arguments, error in calls:
                told = self.confined(path, "perl", "-e", script.replace("@ARGV", ", ".join(str(number) for number in (self.numbers[name], *arguments))))
                self.assertEqual(told.stdout, str(error), f"{name} under {path.name}: {told.stderr}")
        # Only the general one lets a program start others.
        self.assertEqual(self.confined(GENERAL, "bash", "-c", "/bin/true; echo started").stdout, "started\n")
        self.assertNotIn("started", self.confined(MINIMAL, "bash", "-c", "/bin/true && echo started").stdout)

    def test_without_its_calls_a_profile_says_what_is_missing(self):
        profile = seccomp.read(GENERAL)
        profile["syscalls"] = [rule for rule in profile["syscalls"] if not IO_URING & set(rule["names"])]
        rules = self.folder / "without.rules"
        rules.write_text("\n".join(seccomp.rules(profile, self.numbers)) + "\n")
        ended = subprocess.run([CONFINE, rules, PROBE], capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("the seccomp filter of this process forbids io_uring", ended.stdout)

    def test_rules_that_cannot_be_are_refused(self):
        for text in ("", "allow", "allow x\ndefault 1", "allow 1 9 eq 1\ndefault 1", "allow 1 0 lt 1\ndefault 1", "allow 1\n"):
            rules = self.folder / "broken.rules"
            rules.write_text(text)
            self.assertEqual(subprocess.run([CONFINE, rules, "/bin/true"], capture_output=True, check=False).returncode, 126, text)

    def test_architecture_is_in_the_profiles(self):
        self.assertIn(platform.machine(), seccomp.ARCHITECTURES)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
