#!/usr/bin/env python3
"""Holds ./ferrule to what it says: help, errors, and how it installs packages, with stand-ins for the system's programs."""

import json
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

    def run_it(self, *arguments, path=None, cwd="/", **variables):
        environment = dict(os.environ, **({"PATH": str(path)} if path else {}), **variables)
        environment.pop("CXX", None)
        return subprocess.run(
            [ROOT / "ferrule", *arguments], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def bare_machine(self):
        """A PATH with what a fresh Debian has and nothing that Ferrule needs."""
        for name in BASE:
            found = shutil.which(name)
            if found and not (self.programs / name).exists():
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

    def examine(self, files, *arguments, cpus=4):
        """`./ferrule doctor` on a machine whose /proc and /sys say this, as the findings by name."""
        self.bare_machine()
        self.stand_in("perl", "echo 0")
        self.stand_in("nproc", f"echo {cpus}")
        machine = self.folder / "machine"
        shutil.rmtree(machine, ignore_errors=True)
        for name, text in files.items():
            (machine / name).parent.mkdir(parents=True, exist_ok=True)
            (machine / name).write_text(text)
        machine.mkdir(exist_ok=True)
        result = self.run_it("doctor", "--json", *arguments, path=self.programs, FERRULE_DOCTOR_ROOT=str(machine))
        told = json.loads(result.stdout)
        self.assertEqual(told["runs"], result.returncode == 0)
        return {finding["name"]: finding for finding in told["findings"]}

    def assert_finding(self, found, name, state, *texts):
        self.assertIn(name, found)
        self.assertEqual(found[name]["state"], state, found[name])
        for text in texts:
            self.assertIn(text, " ".join([found[name]["value"], *found[name]["remedies"]]))

    def test_doctor_as_json_has_what_it_says_in_words(self):
        words = self.run_it("doctor").stdout
        told = json.loads(self.run_it("doctor", "--json").stdout)
        self.assertIn("kernel", [finding["name"] for finding in told["findings"]])
        for finding in told["findings"]:
            self.assertIn(finding["state"], ("ok", "note", "warn", "fail"))
            # What may change from one call to the next.
            if finding["name"] not in ("conntrack", "probe"):
                self.assertIn(finding["value"], words)
        self.assertIn("unknown option --fast", self.run_it("doctor", "--fast").stderr)

    def test_doctor_on_a_good_machine_has_no_remedies(self):
        found = self.examine({
            "proc/sys/net/core/somaxconn": "4096\n", "proc/sys/net/ipv4/ip_local_port_range": "1024\t65535\n", "proc/net/if_inet6": "",
            "proc/meminfo": "MemTotal:       65536000 kB\n", "sys/devices/system/node/online": "0\n",
            "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n", "proc/sys/net/ipv4/tcp_congestion_control": "cubic\n",
            "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n", "proc/sys/vm/nr_hugepages": "8\n",
        })  # fmt: skip
        for name in ("somaxconn", "ports", "memory", "numa", "clock", "congestion", "hugepages"):
            self.assert_finding(found, name, "ok")
            self.assertEqual(found[name]["remedies"], [])
        self.assertIn("64512 connections", found["ports"]["value"])
        for name in ("quota", "container", "ipv6"):
            self.assertNotIn(name, found)

    def test_doctor_on_a_bad_machine_says_what_to_do(self):
        found = self.examine({
            "proc/sys/net/core/somaxconn": "128\n", "proc/sys/net/ipv4/ip_local_port_range": "60000\t60999\n",
            "proc/meminfo": "MemTotal:       2048000 kB\n", "sys/devices/system/node/online": "0-1\n",
            "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
            "sys/devices/system/clocksource/clocksource0/available_clocksource": "hpet acpi_pm\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
            "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
            "proc/sys/net/netfilter/nf_conntrack_max": "1000\n", "proc/sys/net/netfilter/nf_conntrack_count": "950\n",
        })  # fmt: skip
        self.assert_finding(found, "somaxconn", "warn", "net.core.somaxconn=4096")
        self.assert_finding(found, "ports", "warn", "1000 connections", "ip_local_port_range")
        self.assert_finding(found, "memory", "note", "2000 MiB of the machine", "ReactorOptions::memory_limit = 400 MiB")
        self.assert_finding(found, "numa", "note", "0-1", "local_memory")
        self.assert_finding(found, "clock", "warn", "hpet acpi_pm")
        self.assert_finding(found, "governor", "note", "performance")
        self.assert_finding(found, "hugepages", "ok", "echo madvise")
        self.assert_finding(found, "conntrack", "warn", "nf_conntrack_max=4000")

    def test_doctor_sees_the_limits_of_a_container(self):
        group = "sys/fs/cgroup/kubepods/pod1"
        files = {
            "proc/self/cgroup": "0::/kubepods/pod1/container\n", "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            # The least of all above it is what counts; the root has no such file.
            f"{group}/container/cpu.max": "max 100000\n", f"{group}/cpu.max": "150000 100000\n",
            f"{group}/container/memory.max": "536870912\n", f"{group}/memory.max": "max\n", "proc/meminfo": "MemTotal: 65536000 kB\n",
        }  # fmt: skip
        found = self.examine(files)
        self.assert_finding(found, "container", "ok", "Kubernetes")
        self.assert_finding(found, "quota", "warn", "1.5 CPUs' time for 4 CPUs", "ServerOptions::reactors = 1", "cpuset")
        self.assert_finding(found, "memory", "warn", "512 MiB of the cgroup for 4 reactors", "ReactorOptions::memory_limit = 102 MiB")
        self.assert_finding(self.examine({**files, f"{group}/cpu.max": "400000 100000\n"}), "quota", "ok", "4.0")
        self.assert_finding(self.examine({**files, "run/.containerenv": "", "proc/self/cgroup": "0::/\n"}), "container", "ok", "Podman")

    def test_doctor_sees_the_limits_of_older_control_groups(self):
        found = self.examine({
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/\n", ".dockerenv": "",
            "sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "268435456\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", "proc/meminfo": "MemTotal: 65536000 kB\n",
        })  # fmt: skip
        self.assert_finding(found, "quota", "warn", "0.5 CPUs' time for 4 CPUs", "ServerOptions::reactors = 1")
        self.assert_finding(found, "memory", "warn", "256 MiB of the cgroup")
        self.assert_finding(found, "container", "ok", "Docker")

    def test_doctor_tells_who_forbids_io_uring(self):
        self.bare_machine()
        machine = self.folder / "machine"
        (machine / "proc/sys/kernel").mkdir(parents=True)
        (machine / "proc/self").mkdir(parents=True)
        for disabled, filtered, expected in (
            ("0", "2", "the default profiles of Docker and containerd"), ("0", "0", "a security module"), ("1", "0", "io_uring_group"),
            ("2", "0", "nobody may use it"),
        ):  # fmt: skip
            (machine / "proc/sys/kernel/io_uring_disabled").write_text(f"{disabled}\n")
            (machine / "proc/self/status").write_text(f"Name:\tdoctor\nSeccomp:\t{filtered}\nSeccomp_filters:\t1\n")
            self.stand_in("perl", "echo 1")
            result = self.run_it("doctor", path=self.programs, FERRULE_DOCTOR_ROOT=str(machine))
            self.assertEqual(result.returncode, 1)
            self.assertIn(expected, result.stdout)
            self.assertEqual("dist/seccomp/ferrule.json" in result.stdout, filtered == "2")

    def test_unknown_options_and_a_second_filter_are_errors(self):
        self.assertIn("unknown option --fast", self.run_it("test", "--fast").stderr)
        self.assertIn("one filter only", self.run_it("test", "net", "ring").stderr)
        self.assertIn("--full has them", self.run_it("test", "--kernels", "--full").stderr)


if __name__ == "__main__":
    unittest.main()
