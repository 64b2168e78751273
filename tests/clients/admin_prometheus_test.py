#!/usr/bin/env python3
"""What the admin port shows, read by Prometheus' own parser and by curl. Usage: admin_prometheus_test.py PLAYGROUND

The playground's `admin` runs on free ports. Without Debian's python3-prometheus-client the exit status is 77.
"""

import contextlib
import http.client
import json
import math
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest

# Debian's package is for Debian's own interpreter; it is all Python, so any other one can read it, too.
sys.path.append("/usr/lib/python3/dist-packages")
try:
    from prometheus_client import parser as prometheus
except ImportError:
    print("SKIPPED: python3-prometheus-client is not installed")
    sys.exit(77)

PLAYGROUND = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".")
TIMEOUT_SECONDS = 100


class Watched:
    """The server, as `--help` has it, on free ports."""

    def __init__(self, process):
        self.process = process
        line = process.stdout.readline()
        self.port, self.admin_port = (int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", line))

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def families(self):
        status, _, text = self.get("/metrics")
        assert status == 200, status
        return {family.name: family for family in prometheus.text_string_to_metric_families(text)}

    def talk(self, times):
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECONDS) as peer:
            for _ in range(times):
                peer.sendall(b"hello")
                received = b""
                while len(received) < 5:
                    piece = peer.recv(5 - len(received))
                    assert piece, "the echo ended"
                    received += piece


@contextlib.contextmanager
def watched(*arguments):
    command = [PLAYGROUND / "admin", "--host=127.0.0.1", "--port=0", "--reactors=2", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Watched(process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(timeout=TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert status == 0, f"admin ended with {status}"


def total(family, **labels):
    return sum(sample.value for sample in family.samples if labels.items() <= sample.labels.items())


class Admin(unittest.TestCase):
    def test_prometheus_reads_every_family_with_its_type_help_and_reactor(self):
        with watched() as server:
            server.talk(3)
            families = server.families()
        for name, kind in (
            ("ferrule_loop_passes", "counter"), ("ferrule_loop_pass_duration_seconds", "histogram"),
            ("ferrule_connections", "gauge"), ("ferrule_connections_accepted", "counter"), ("ferrule_ring_overflows", "counter"),
            ("ferrule_receive_starvations", "counter"), ("ferrule_ring_busy_enters", "counter"),
            ("ferrule_mailbox_messages", "counter"), ("ferrule_deadlines_armed", "gauge"), ("ferrule_frames", "gauge"),
            ("ferrule_memory_used_bytes", "gauge"), ("echo_echoes", "counter"), ("echo_duration_seconds", "histogram"),
            ("process_start_time_seconds", "gauge"), ("process_open_fds", "gauge"), ("process_resident_memory_bytes", "gauge"),
            ("ferrule_build_info", "gauge"),
        ):  # fmt: skip
            self.assertIn(name, families)
            self.assertEqual(families[name].type, kind, name)
        for family in families.values():
            self.assertTrue(family.documentation, family.name)
            self.assertTrue(family.samples, family.name)
            for sample in family.samples:
                self.assertTrue(math.isfinite(sample.value), sample)
                if not family.name.startswith(("process_", "ferrule_build_info")):
                    self.assertIn(sample.labels["reactor"], ("0", "1"))
        self.assertEqual(total(families["ferrule_connections_accepted"]), 1)
        self.assertGreaterEqual(total(families["echo_echoes"]), 2)

    def test_counters_never_go_back_and_histograms_agree_under_load(self):
        with watched() as server:
            peers = [threading.Thread(target=server.talk, args=(400,)) for _ in range(4)]
            for peer in peers:
                peer.start()
            before = {}
            for _ in range(20):
                for family in server.families().values():
                    buckets = {}
                    for sample in family.samples:
                        key = (sample.name, *sorted(sample.labels.items()))
                        # The sum is read beside the buckets, and times and their sums only grow.
                        if family.type in ("counter", "histogram"):
                            self.assertGreaterEqual(sample.value, before.get(key, 0), key)
                        before[key] = sample.value
                        if sample.name.endswith("_bucket"):
                            row = buckets.setdefault(sample.labels["reactor"], [])
                            row.append((float(sample.labels["le"]), sample.value))
                        if family.type == "histogram" and sample.name.endswith("_count"):
                            self.assertEqual(buckets[sample.labels["reactor"]][-1], (math.inf, sample.value))
                    for row in buckets.values():
                        self.assertEqual(row, sorted(row), family.name)
                        self.assertEqual(len({bound for bound, _ in row}), len(row), family.name)
            for peer in peers:
                peer.join()
            self.assertGreaterEqual(total(server.families()["echo_echoes"]), 4 * 399)

    def test_json_has_the_same_families(self):
        with watched() as server:
            families = server.families()
            status, headers, text = server.get("/metrics.json")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        shown = {family["name"]: family for family in json.loads(text)["metrics"]}
        self.assertEqual({name.removesuffix("_total") for name in shown}, set(families))
        passes = shown["ferrule_loop_pass_duration_seconds"]
        self.assertEqual(passes["unit"], "seconds")
        quantiles = [float(value) for value in passes["samples"][0]["quantiles"].values()]
        self.assertEqual(quantiles, sorted(quantiles))

    def test_pages_for_those_who_run_it(self):
        with watched() as server:
            self.assertEqual(server.get("/healthz")[::2], (200, "reactor 0: ok\nreactor 1: ok\n"))
            self.assertEqual(server.get("/readyz")[::2], (200, "ok\n"))
            self.assertIn("reactor 1:\n", server.get("/tasks")[2])
            self.assertEqual(server.get("/nothing")[0], 404)
            self.assertIn("/metrics\n", server.get("/")[2])

    def test_curl_gets_it(self):
        curl = shutil.which("curl")
        if curl is None:
            self.skipTest("curl is not installed")
        with watched() as server:
            url = f"http://localhost:{server.admin_port}/readyz"
            done = subprocess.run([curl, "-sS4", "--fail", "--noproxy", "*", url], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout), (0, "ok\n"), done.stderr)
            head = subprocess.run([curl, "-sS4I", "--noproxy", "*", url], capture_output=True, text=True, check=False)
            self.assertIn("Content-Length: 3", head.stdout)
            done = subprocess.run([curl, "-sS4", "-X", "POST", "--noproxy", "*", url], capture_output=True, text=True, check=False)
            self.assertIn("only GET and HEAD", done.stdout)


if __name__ == "__main__":
    unittest.main()
