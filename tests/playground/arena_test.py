"""The endpoints of the arena: right answers to what benchmarks ask, however it arrives, and clear ones to what is wrong.

Usage: arena_test.py ARENA ITEMS, where ARENA is the program and ITEMS its data set.
"""

import gzip
import http.client
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

TIMEOUT_SECONDS = 100
ARENA = pathlib.Path(sys.argv.pop(1)).resolve()
ITEMS = pathlib.Path(sys.argv.pop(1)).resolve()


def answers_of(connection, count):
    """(status, body) of so many answers on a socket, or of those before its end."""
    received, answers = b"", []
    while len(answers) < count:
        head, blank, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: *(\d+)", head)
        if blank and length and len(rest) >= int(length[1]):
            answers.append((int(head.split()[1]), rest[: int(length[1])]))
            received = rest[int(length[1]):]
            continue
        piece = connection.recv(1 << 16)
        if not piece:
            break
        received += piece
    return answers


class Arena(unittest.TestCase):
    # With the data set that is its default.

    @classmethod
    def setUpClass(cls):
        cls.process = subprocess.Popen([ARENA, "--host", "127.0.0.1", "--port", "0", "--reactors", "1"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        cls.port = int(re.search(r"127\.0\.0\.1:(\d+)", cls.process.stdout.readline())[1])

    @classmethod
    def tearDownClass(cls):
        cls.process.terminate()
        output = cls.process.communicate(timeout=TIMEOUT_SECONDS)[0]
        if cls.process.returncode != 0:
            raise AssertionError(f"it ended with {cls.process.returncode}: {output}")

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, method, target, body=None, headers={}, chunked=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, target, body=body, headers=headers, encode_chunked=chunked)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def test_baseline(self):
        status, headers, body = self.ask("GET", "/baseline11?a=13&b=42")
        self.assertEqual((status, headers["Content-Type"], body), (200, "text/plain", b"55"))
        self.assertEqual(self.ask("GET", "/baseline11?a=-13&b=42")[2], b"29")
        self.assertEqual(self.ask("POST", "/baseline11?a=13&b=42", b"20")[2], b"75")
        chunked = {"Transfer-Encoding": "chunked"}
        self.assertEqual(self.ask("POST", "/baseline11?a=13&b=42", iter([b"2", b"0"]), chunked, chunked=True)[2], b"75")

    def test_baseline_refuses_what_is_no_number(self):
        for target in ("/baseline11?a=x", "/baseline11?a=", "/baseline11?a=9223372036854775807&b=1", "/baseline11?a=1.5"):
            self.assertEqual(self.ask("GET", target)[0], 400, target)
        for body in (b"", b"x", b"1 ", b"99999999999999999999"):
            self.assertEqual(self.ask("POST", "/baseline11?a=1&b=1", body)[0], 400, body)
        self.assertEqual(self.ask("POST", "/baseline11?a=1&b=1", b"1" * 100)[0], 413)

    def test_pipeline(self):
        request = b"GET /pipeline HTTP/1.1\r\nHost: arena\r\n\r\n"
        with self.connect() as connection:
            connection.sendall(request * 64)
            self.assertEqual(answers_of(connection, 64), [(200, b"ok")] * 64)

    def test_json(self):
        items = json.loads(ITEMS.read_text())
        for count, factor in ((1, 1), (7, 4), (25, 4), (50, -2)):
            status, headers, body = self.ask("GET", f"/json/{count}?m={factor}")
            expected = [item | {"total": item["price"] * item["quantity"] * factor} for item in items[:count]]
            self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
            self.assertIsNone(headers["Content-Encoding"])
            self.assertEqual(json.loads(body), {"items": expected, "count": count})

    def test_json_is_compressed_for_those_who_ask(self):
        plain = self.ask("GET", "/json/50?m=3")[2]
        status, headers, body = self.ask("GET", "/json/50?m=3", headers={"Accept-Encoding": "gzip"})
        self.assertEqual((status, headers["Content-Encoding"], headers["Vary"]), (200, "gzip", "Accept-Encoding"))
        self.assertEqual(gzip.decompress(body), plain)
        self.assertLess(len(body), len(plain) / 2)
        status, headers, body = self.ask("GET", "/json/50?m=3", headers={"Accept-Encoding": "gzip, br"})
        self.assertEqual((status, headers["Content-Encoding"]), (200, "br"))
        self.assertEqual(self.decompressed(body), plain)
        self.assertLess(len(body), len(plain) / 2)
        for refused in ("identity", "gzip;q=0", "zstd"):
            self.assertEqual(self.ask("GET", "/json/50?m=3", headers={"Accept-Encoding": refused})[2], plain)

    def decompressed(self, body):
        """By node, whose brotli is another program's; the same bytes where there is none would prove nothing."""
        node = shutil.which("node")
        if node is None:
            self.skipTest("node is not installed")
        script = "process.stdout.write(require('zlib').brotliDecompressSync(require('fs').readFileSync(0)))"
        return subprocess.run([node, "-e", script], input=body, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_SECONDS).stdout

    def test_json_refuses_what_is_not_there(self):
        for target, expected in (("/json/0?m=1", 404), ("/json/51?m=1", 404), ("/json/x?m=1", 404), ("/json/-1?m=1", 404), ("/json/5?m=x", 400)):
            self.assertEqual(self.ask("GET", target)[0], expected, target)

    def test_upload_counts_what_it_reads(self):
        for size in (0, 1, 500_000, 20_000_000):
            self.assertEqual(self.ask("POST", "/upload", bytes(size))[2], b"%d" % size)
        pieces = [bytes(size) for size in (1, 65536, 17, 1_000_000)]
        self.assertEqual(self.ask("POST", "/upload", iter(pieces), {"Transfer-Encoding": "chunked"}, chunked=True)[2], b"1065554")

    def test_delay(self):
        self.assertEqual(self.ask("GET", "/delay/0")[2], b"0")
        began = time.monotonic()
        self.assertEqual(self.ask("GET", "/delay/200")[2], b"200")
        self.assertGreaterEqual(time.monotonic() - began, 0.2)
        self.assertEqual(self.ask("GET", "/delay/600001")[0], 404)

    def test_requests_cut_anywhere(self):
        stream = (b"GET /baseline11?a=1&b=2 HTTP/1.1\r\nHost: arena\r\n\r\n"
                  b"POST /baseline11?a=1&b=2 HTTP/1.1\r\nHost: arena\r\nContent-Length: 2\r\n\r\n20"
                  b"POST /baseline11?a=1&b=2 HTTP/1.1\r\nHost: arena\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n3\r\n1\r\n0\r\n0\r\n\r\n"
                  b"GET /pipeline HTTP/1.1\r\nHost: arena\r\n\r\n")
        expected = [(200, b"3"), (200, b"23"), (200, b"33"), (200, b"ok")]
        with self.connect() as other:

            def has_been_read():
                # The one reactor reads in the order in which bytes come.
                other.sendall(b"GET /pipeline HTTP/1.1\r\nHost: arena\r\n\r\n")
                self.assertEqual(answers_of(other, 1), [(200, b"ok")])

            for cut in range(1, len(stream)):
                with self.connect() as connection:
                    connection.sendall(stream[:cut])
                    has_been_read()
                    connection.sendall(stream[cut:])
                    self.assertEqual(answers_of(connection, 4), expected, cut)
            with self.connect() as connection:
                for at in range(len(stream)):
                    connection.sendall(stream[at: at + 1])
                    has_been_read()
                self.assertEqual(answers_of(connection, 4), expected)

    def test_the_hostile_are_refused_and_others_unharmed(self):
        with self.connect() as honest:
            for lines in (b"Host: a\rb", b"Host: arena\r\n folded: 1", b"Host: arena\r\nX: \0", b"Host: arena\r\nContent-Length: +1",
                          b"Host: arena\r\nContent-Length: 1\r\nContent-Length: 1", b"Host: arena\r\nContent-Length : 1", b"Host: arena\nX: 1"):
                with self.connect() as hostile:
                    hostile.sendall(b"GET /pipeline HTTP/1.1\r\n" + lines + b"\r\n\r\n" + b"GET /pipeline HTTP/1.1\r\nHost: arena\r\n\r\n")
                    self.assertEqual([status for status, _ in answers_of(hostile, 2)], [400], lines)
                honest.sendall(b"GET /pipeline HTTP/1.1\r\nHost: arena\r\n\r\n")
                self.assertEqual(answers_of(honest, 1), [(200, b"ok")])
            with self.connect() as hostile:
                hostile.sendall(b"GET /pipeline HTTP/1.1\r\nHost: arena\r\n" + b"X: %s\r\n" % (b"x" * 8000) * 9 + b"\r\n")
                self.assertEqual([status for status, _ in answers_of(hostile, 1)], [431])


class Dataset(unittest.TestCase):
    def test_one_of_ones_own(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            items = json.loads(ITEMS.read_text())[:2]
            items[1]["name"] = 'a "quoted" n\u00e4me\n'
            file.write(json.dumps(items))
            file.flush()
            command = [ARENA, "--host", "127.0.0.1", "--port", "0", "--reactors", "1", "--dataset", file.name]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                try:
                    port = int(re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())[1])
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
                    connection.request("GET", "/json/2?m=1")
                    self.assertEqual([item["name"] for item in json.loads(connection.getresponse().read())["items"]], [item["name"] for item in items])
                    connection.close()
                finally:
                    process.kill()

    def test_one_that_is_none(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            for text in ("", "[{}]", "[1"):
                file.seek(0)
                file.truncate()
                file.write(text)
                file.flush()
                ended = subprocess.run([ARENA, "--port", "0", "--dataset", file.name], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
                self.assertEqual((ended.returncode, ended.stdout), (1, ""))
                self.assertIn(f"arena: {file.name}: ", ended.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
