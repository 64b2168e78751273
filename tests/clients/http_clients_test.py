#!/usr/bin/env python3
"""The playground's `http`, asked by the clients that are in use. Usage: http_clients_test.py PLAYGROUND [test...]

The server listens on a free port. What is not installed is skipped: when that is all, the exit status is 77. FERRULE_NODE_MODULES names a folder
node_modules with clients from npm that no distribution has: undici, autocannon.
"""

import base64
import contextlib
import email.parser
import email.policy
import fcntl
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
import zlib

# Debian's packages are for Debian's own interpreter; requests is all Python, so any other one can read it, too.
sys.path.append("/usr/lib/python3/dist-packages")
try:
    import requests
except ImportError:
    requests = None

TIMEOUT_SECONDS = 100
PLAYGROUND = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".").resolve()
HERE = pathlib.Path(__file__).resolve().parent
NODE_MODULES = pathlib.Path(os.environ.get("FERRULE_NODE_MODULES", "/nonexistent"))
KILOBYTE, MEGABYTE = 1 << 10, 1 << 20


def find_program(name):
    """Where a client is; skips the test when it is nowhere."""
    found = shutil.which(name)
    if found is None:
        raise unittest.SkipTest(f"{name} is not installed")
    return found


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="ferrule-", ignore_cleanup_errors=True) as path:
        yield pathlib.Path(path)


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def wait_until(holds, why):
    """Looks again and again."""
    until = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        if time.monotonic() > until:
            raise RuntimeError(why())
        time.sleep(0.01)


def random_bytes(count):
    return random.Random(count).randbytes(count)


class Served:
    """The server, when it has said where it listens."""

    def __init__(self, path, *options):
        self.log = path / f"http-{random.SystemRandom().randrange(1 << 32):08x}.log"
        command = [PLAYGROUND / "http", "--host", "127.0.0.1", *([] if "--port" in options else ["--port", "0"]), *options]
        with open(self.log, "w") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            # A line that is not whole yet might have half a number.
            found = lambda: re.search(r"http listens on 127\.0\.0\.1:(\d+)\n", self.said())
            wait_until(lambda: found() or self.process.poll() is not None, lambda: f"it does not listen: {self.said()}")
            if found() is None:
                raise RuntimeError(f"it ended with {self.process.returncode}: {self.said()}")
        except BaseException:
            self.kill()
            raise
        self.port = int(found()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def said(self):
        return self.log.read_text()

    def established(self):
        """How many connections there are to its port, by their state (ESTABLISHED) on the server's side."""
        lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        return sum(line.split()[1] == f"0100007F:{self.port:04X}" and line.split()[3] == "01" for line in lines)

    def wait(self):
        """For an end that was asked for."""
        status = self.process.wait(TIMEOUT_SECONDS)
        if status != 0:
            raise RuntimeError(f"http ended with {status}: {self.said()}")

    def stop(self):
        try:
            self.process.terminate()
            self.wait()
        finally:
            self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()


class ClientTest(unittest.TestCase):
    """Tests that share a server; it has to end well after them, with nothing to complain about."""

    OPTIONS = ("--reactors", "2")

    @classmethod
    def setUpClass(cls):
        path = folder()
        cls.path = path.__enter__()
        cls.addClassCleanup(path.__exit__, None, None, None)
        cls.server = Served(cls.path, *cls.OPTIONS)
        cls.addClassCleanup(cls.server.kill)
        cls.port, cls.url = cls.server.port, cls.server.url

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def run_client(self, command, expect=0, **options):
        """A client that must end with this status: what it says."""
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False, **options)
        self.assertEqual(done.returncode, expect, (command, done.stdout[-2000:], done.stderr[-4000:], self.server.said()))
        return done


class CurlAnswer:
    """What curl has got: the body of all its transfers, and of each the status, the number of new connections and the size."""

    def __init__(self, done):
        self.body = done.stdout
        self.verbose = done.stderr.decode(errors="replace").replace("\r", "")
        self.transfers = [tuple(map(int, found)) for found in re.findall(r"^transfer: (\d+) (\d+) (\d+)$", self.verbose, re.M)]
        self.statuses = [status for status, _, _ in self.transfers]
        self.connections = sum(connections for _, connections, _ in self.transfers)
        # Each head, with those that are informational. A word of curl's own may stand within one.
        self.heads = re.findall(r"^< HTTP/.*\n(?:< .*\n)*", self.verbose, re.M)

    @property
    def status(self):
        assert len(self.statuses) == 1, self.verbose
        return self.statuses[0]

    def fields(self, name):
        """Of the last head."""
        return re.findall(rf"^< {name}: *(.*)$", self.heads[-1], re.M | re.I)


class Curl(ClientTest):
    def curl(self, *arguments, expect=0, data=None):
        options = {} if data is None else {"input": data}
        command = [find_program("curl"), "-q", "-sS", "-v", "--noproxy", "*", "--max-time", str(TIMEOUT_SECONDS)]
        said = "%{stderr}transfer: %{http_code} %{num_connects} %{size_download}\n"
        return CurlAnswer(self.run_client([*command, "-w", said, *arguments], expect, **options))

    def supports(self, feature):
        return feature in self.run_client([find_program("curl"), "--version"]).stdout.decode()

    def test_a_form_and_bytes_come_back_as_they_were(self):
        answer = self.curl("-d", "name=a b", "-d", "other=%C3%A4", f"{self.url}/echo")
        self.assertEqual((answer.status, answer.body), (200, b"name=a b&other=%C3%A4"))
        self.assertEqual(answer.fields("Content-Type"), ["application/x-www-form-urlencoded"])
        for size in (0, 1, 4095, 65_537, MEGABYTE):
            data = random_bytes(size)
            answer = self.curl("--data-binary", "@-", "-H", "Content-Type: application/x-test", f"{self.url}/echo", data=data)
            self.assertEqual((answer.status, answer.body == data), (200, True), size)
            self.assertEqual(answer.fields("Content-Type"), ["application/x-test"])

    def test_parts_of_a_form(self):
        data = random_bytes(300_000)
        (self.path / "part").write_bytes(data)
        answer = self.curl("-F", "text=words, and more", "-F", f"file=@{self.path}/part;type=image/png", f"{self.url}/echo")
        self.assertEqual(answer.status, 200)
        head = f"Content-Type: {answer.fields('Content-Type')[0]}\r\n\r\n".encode()
        text, file = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + answer.body).iter_parts()
        self.assertEqual(text.get_payload(decode=True), b"words, and more")
        self.assertEqual((file.get_content_type(), file.get_payload(decode=True) == data), ("image/png", True))

    def test_h1_12_a_large_body_waits_to_be_asked_for(self):
        data = random_bytes(3 * MEGABYTE)
        (self.path / "upload").write_bytes(data)
        for verb, option in ((("-X", "POST", "-T"), f"{self.path}/upload"), (("--data-binary",), f"@{self.path}/upload")):
            # Without a 100 (Continue), curl would never begin.
            answer = self.curl("--expect100-timeout", "1000", "-H", "Expect: 100-continue", *verb, option, f"{self.url}/upload")
            self.assertEqual(answer.status, 200)
            self.assertRegex(answer.heads[0], r"^< HTTP/1.1 100 ")
            count, checksum = answer.body.split()
            self.assertEqual((int(count), int(checksum, 16)), (len(data), zlib.crc32(data)))
            answer = self.curl("--expect100-timeout", "1000", "-H", "Expect: 100-continue", *verb, option, f"{self.url}/echo")
            self.assertEqual((answer.status, answer.body == data), (200, True))
            # Where nobody reads it, it is not asked for.
            answer = self.curl("--expect100-timeout", "1000", "-H", "Expect: 100-continue", *verb, option, f"{self.url}/nowhere")
            self.assertEqual((answer.status, len(answer.heads)), (404, 1), answer.heads)

    def test_an_upload_of_unknown_length(self):
        data = random_bytes(2 * MEGABYTE + 1)
        answer = self.curl("-X", "POST", "-T", "-", f"{self.url}/upload", data=data)
        self.assertIn("> Transfer-Encoding: chunked", answer.verbose)
        count, checksum = answer.body.split()
        self.assertEqual((answer.status, int(count), int(checksum, 16)), (200, len(data), zlib.crc32(data)))
        answer = self.curl("-X", "POST", "-T", "-", f"{self.url}/echo", data=data)
        self.assertEqual((answer.status, answer.body == data), (200, True))
        answer = self.curl("-X", "POST", "-T", "-", f"{self.url}/echo", data=b"")
        self.assertEqual((answer.status, answer.body), (200, b""))

    def test_a_method_that_a_path_does_not_have(self):
        answer = self.curl("-T", "-", f"{self.url}/echo", data=b"a body")
        self.assertEqual((answer.status, sorted(answer.fields("Allow")[0].split(", "))), (405, ["OPTIONS", "POST"]))
        answer = self.curl("-X", "OPTIONS", f"{self.url}/hello/somebody")
        self.assertIn(answer.status, (200, 204))
        self.assertEqual(sorted(answer.fields("Allow")[0].split(", ")), ["GET", "HEAD", "OPTIONS"])
        answer = self.curl("-X", "OPTIONS", "--request-target", "*", self.url)
        self.assertIn(answer.status, (200, 204))

    def test_h1_14_a_head_alone(self):
        get, head = self.curl(f"{self.url}/hello/somebody"), self.curl("--head", f"{self.url}/hello/somebody", f"{self.url}/hello/you")
        self.assertEqual((get.body, head.statuses, head.connections), (b"hello, somebody\n", [200, 200], 1))
        self.assertEqual(get.fields("Content-Length"), ["16"])
        self.assertEqual(re.findall("^< content-length: (.*)$", head.verbose, re.M | re.I), ["16", "11"])
        # What would come in pieces says nothing of its length, and ends with its head, too.
        head = self.curl("--head", f"{self.url}/stream/1000", self.url)
        self.assertEqual((head.statuses, head.connections), ([200, 200], 1))

    def test_http_1_0(self):
        answer = self.curl("-0", self.url, self.url)
        self.assertEqual((answer.statuses, answer.body, answer.connections), ([200, 200], b"okok", 2))
        answer = self.curl("-0", "-H", "Connection: keep-alive", self.url, self.url)
        self.assertEqual((answer.statuses, answer.body, answer.connections), ([200, 200], b"okok", 1))
        self.assertEqual([value.lower() for value in answer.fields("Connection")], ["keep-alive"])
        # An end that is not known is the connection's, and chunks are not for the old.
        answer = self.curl("-0", f"{self.url}/stream/1000")
        self.assertEqual(answer.body.splitlines(), [b"line %d" % number for number in range(1, 1001)])
        self.assertEqual(answer.fields("Transfer-Encoding"), [])
        answer = self.curl("-0", "-d", "a body", f"{self.url}/echo")
        self.assertEqual((answer.status, answer.body), (200, b"a body"))

    def test_compressed(self):
        plain = self.curl(f"{self.url}/compressed")
        self.assertEqual((plain.status, plain.fields("Content-Encoding"), plain.fields("Vary")), (200, [], ["Accept-Encoding"]))
        self.assertGreater(len(plain.body), 5000)
        for encoding, feature in (("gzip", "libz"), ("br", "brotli")):
            if not self.supports(feature):
                continue
            answer = self.curl("--compressed", "-H", f"Accept-Encoding: {encoding}", f"{self.url}/compressed")
            self.assertEqual((answer.fields("Content-Encoding"), answer.fields("Vary")), ([encoding], ["Accept-Encoding"]))
            self.assertEqual(answer.body, plain.body)
            self.assertLess(answer.transfers[0][2], len(plain.body) // 2)
        # Both, by curl's own words.
        answer = self.curl("--compressed", f"{self.url}/compressed")
        self.assertEqual((answer.body, len(answer.fields("Content-Encoding"))), (plain.body, 1))
        head = self.curl("--head", "--compressed", f"{self.url}/compressed", self.url)
        self.assertEqual((head.statuses, head.connections), ([200, 200], 1))

    def test_every_status_leaves_the_connection_usable(self):
        answer = self.curl("-o", os.devnull, f"{self.url}/status/[200-599]")
        self.assertEqual(answer.statuses, list(range(200, 600)))
        self.assertEqual(answer.connections, 1)

    def test_one_connection_for_all(self):
        paths = ("/", "/hello/a%20b%2Fc%C3%A4", "/users/12/posts/-34", "/stream/3", "/status/204", "/status/304", "/nowhere", "/slow/1", "/")
        answer = self.curl(*(self.url + path for path in paths))
        self.assertEqual((answer.statuses, answer.connections), ([200, 200, 200, 200, 204, 304, 404, 200, 200], 1))
        self.assertTrue(answer.body.startswith("okhello, a b/cä\n".encode()), answer.body)
        self.assertIn(b'{"user":12,"post":-34}', answer.body)
        self.assertIn(b"line 1\nline 2\nline 3\n", answer.body)
        # One after the other, with bodies of each kind.
        bodies = ("-d", "one", f"{self.url}/echo", "--next", "-sS", "-X", "POST", "-T", "-", f"{self.url}/echo", "--next", "-sS", self.url)
        answer = self.curl(*bodies, data=b"two")
        self.assertEqual(answer.body, b"onetwook")
        self.assertEqual(answer.verbose.count("Connection #0 to host"), 3, answer.verbose)
        answer = self.curl("-H", "Connection: close", self.url, self.url)
        self.assertEqual((answer.statuses, answer.connections), ([200, 200], 2))
        self.assertEqual([value.lower() for value in answer.fields("Connection")], ["close"])

    def test_many_at_once(self):
        answer = self.curl("-Z", "--parallel-max", "20", f"{self.url}/slow/[1-60]")
        self.assertEqual(answer.statuses, [200] * 60)
        self.assertLessEqual(answer.connections, 20)

    def test_a_client_that_goes_in_the_middle(self):
        answer = self.curl("--max-filesize", "10", f"{self.url}/hello/somebody", expect=63)
        self.assertEqual(answer.statuses, [200])
        with subprocess.Popen([find_program("curl"), "-q", "-sN", "--noproxy", "*", f"{self.url}/stream/1000000"], stdout=subprocess.PIPE) as client:
            self.assertEqual(client.stdout.readline(), b"line 1\n")
            client.kill()
        self.assertEqual(self.curl(self.url).body, b"ok")

    def test_query_and_fields(self):
        answer = self.curl("-G", "--data-urlencode", "x=1", "--data-urlencode", "y=a b&c=d+ä", f"{self.url}/query")
        self.assertEqual(json.loads(answer.body), {"x": "1", "y": "a b&c=d+ä"})
        answer = self.curl("-u", "user:word", "-b", "a=1; b=2", "-A", "a client", "-e", "http://else.where/", "-r", "0-0", "-z", "yesterday",
                           "--tr-encoding", "-H", "X-Empty;", "-H", "X-Two: 1", "-H", "X-Two: 2", f"{self.url}/headers")  # fmt: skip
        self.assertEqual(answer.status, 200)
        fields = [(name.lower(), value) for name, value in json.loads(answer.body)]
        for field in (("authorization", "Basic dXNlcjp3b3Jk"), ("cookie", "a=1; b=2"), ("user-agent", "a client"), ("range", "bytes=0-0"),
                      ("referer", "http://else.where/"), ("x-empty", ""), ("x-two", "1"), ("x-two", "2")):  # fmt: skip
            self.assertIn(field, fields)

    def test_h1_03_as_a_proxy_is_asked(self):
        answer = self.curl("--noproxy", "", "--proxy", self.url, "http://else.where:81/hello/somebody?x=1")
        self.assertIn("> GET http://else.where:81/hello/somebody?x=1 HTTP/1.1\n", answer.verbose)
        self.assertEqual((answer.status, answer.body), (200, b"hello, somebody\n"))

    def test_h1_13_an_upgrade_that_nobody_handles(self):
        if self.supports("nghttp2"):
            answer = self.curl("--http2", self.url, self.url)
            self.assertIn("> Upgrade: h2c\n", answer.verbose)
            self.assertEqual((answer.statuses, answer.body), ([200, 200], b"okok"))

    def test_what_is_refused(self):
        large = "x" * 9000
        for status, arguments in (
            (400, ("-H", "Host:", self.url)),
            (400, ("-H", "Host: two words", self.url)),
            (400, ("-H", "Content-Length: 1,1", "-d", "x", f"{self.url}/echo")),
            (400, ("-H", "Transfer-Encoding: chunked", "-H", "Content-Length: 1", "-d", "x", f"{self.url}/echo")),
            (414, (f"{self.url}/{large}",)),
            (417, ("-H", "Expect: something", self.url)),
            (431, ("-H", f"X-Large: {large}", self.url)),
            (501, ("-H", "Transfer-Encoding: gzip, chunked", "-X", "POST", f"{self.url}/echo")),
        ):
            answer = self.curl(*arguments)
            self.assertEqual(answer.status, status, arguments)
            self.assertEqual([value.lower() for value in answer.fields("Connection")], ["close"], arguments)
        self.assertEqual(self.curl(self.url).body, b"ok")


class Unclosed:
    """A reader that more than one answer is read from."""

    def __init__(self, reader):
        self.reader = reader

    def __getattr__(self, name):
        return getattr(self.reader, name)

    def close(self):
        pass


class Wire(contextlib.ExitStack):
    """A connection on which requests are written by hand, and answers read by Python's parser."""

    def __init__(self, port):
        super().__init__()
        self.socket = self.enter_context(connect(port))
        self.reader = self.enter_context(self.socket.makefile("rb"))

    def makefile(self, *_):
        return Unclosed(self.reader)

    def send(self, text):
        self.socket.sendall(text)

    def answer(self, method="GET"):
        answer = http.client.HTTPResponse(self, method=method)
        answer.begin()
        return answer.status, answer.read()


class PythonHttpClient(ClientTest):
    """http.client, and the same by hand."""

    def setUp(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        self.addCleanup(self.connection.close)

    def ask(self, *arguments, **options):
        self.connection.request(*arguments, **options)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def test_one_connection_and_all_kinds_of_bodies(self):
        self.assertEqual(self.ask("GET", "/"), (200, b"ok"))
        first = self.connection.sock
        data = random_bytes(200_000)
        (self.path / "file").write_bytes(data)
        self.assertEqual(self.ask("POST", "/echo", body="text"), (200, b"text"))
        self.assertEqual(self.ask("POST", "/echo", body=data), (200, data))
        with open(self.path / "file", "rb") as file:
            self.assertEqual(self.ask("POST", "/echo", body=file), (200, data))
        # Of unknown length: one chunk for each of the parts.
        parts = [data[start : start + 1000] for start in range(0, len(data), 1000)]
        self.assertEqual(self.ask("POST", "/echo", body=iter(parts)), (200, data))
        chunked = {"headers": {"Transfer-Encoding": "chunked"}, "encode_chunked": True}
        self.assertEqual(self.ask("POST", "/upload", body=iter(parts), **chunked)[1].split()[0], b"200000")
        self.assertEqual(self.ask("HEAD", "/hello/somebody"), (200, b""))
        self.assertEqual(self.ask("DELETE", "/echo")[0], 405)
        self.assertEqual(self.ask("GET", "/stream/100"), (200, b"".join(b"line %d\n" % number for number in range(1, 101))))
        for status in (204, 304, 404, 500):
            self.assertEqual(self.ask("GET", f"/status/{status}")[0], status)
        self.assertIs(self.connection.sock, first)
        self.assertEqual(self.ask("GET", "/", headers={"Connection": "close"}), (200, b"ok"))
        self.assertIsNone(self.connection.sock)

    def test_h1_10_a_body_that_nobody_reads(self):
        self.assertEqual(self.ask("GET", "/"), (200, b"ok"))
        first = self.connection.sock
        for method in ("GET", "HEAD", "OPTIONS"):
            self.assertIn(self.ask(method, "/hello/somebody", body=b"unasked" * 1000)[0], (200, 204))
            self.assertEqual(self.ask("GET", "/hello/you"), (200, b"hello, you\n"))
        self.assertIs(self.connection.sock, first)

    def test_urllib(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/query?x=1&y=a+b", timeout=TIMEOUT_SECONDS) as answer:
            self.assertEqual(json.load(answer)["x"], "1")
        with self.assertRaises(urllib.error.HTTPError) as raised:
            opener.open(f"{self.url}/nowhere", timeout=TIMEOUT_SECONDS)
        self.assertEqual(raised.exception.code, 404)
        raised.exception.close()

    def test_h1_11_pipelined_requests_are_answered_in_their_order(self):
        names = [b"number-%d" % number for number in range(2000)]
        with Wire(self.port) as wire:
            request = b"GET /hello/%s HTTP/1.1\r\nHost: test\r\n\r\n"
            # Beside this thread: not all may fit into the sockets.
            sender = threading.Thread(target=lambda: wire.send(b"".join(request % name for name in names)))
            sender.start()
            self.assertEqual([wire.answer() for _ in names], [(200, b"hello, %s\n" % name) for name in names])
            sender.join()
            # One that takes its time holds up those behind it, not those before it.
            paths = (b"/", b"/slow/50", b"/hello/a", b"/stream/3", b"/slow/1", b"/hello/b")
            wire.send(b"".join(b"GET %s HTTP/1.1\r\nHost: test\r\n\r\n" % path for path in paths))
            answers = [wire.answer() for _ in paths]
            self.assertEqual([status for status, _ in answers], [200] * 6)
            self.assertEqual([answers[index][1] for index in (0, 2, 3, 5)], [b"ok", b"hello, a\n", b"line 1\nline 2\nline 3\n", b"hello, b\n"])

    def test_pipelined_bodies_of_all_kinds(self):
        chunked = b"POST /echo HTTP/1.1\r\nHost: test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n%s"
        requests_and_answers = (
            (b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nfirst", b"first"),
            (chunked % b"3\r\nsec\r\n3\r\nond\r\n0\r\n\r\n", b"second"),
            (chunked % b"000A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\nX-Sum: 1\r\n\r\n", b"0123456789abcdefghij"),
            (b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n", b""),
            (b"POST /echo HTTP/1.1\r\nHost: test\r\n\r\n", b""),
            (b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nGET ", b"ok"),
            (b"GET /hello/end HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\nGET /hello/nobody HTTP/1.1\r\nHost: test\r\n\r\n", b"hello, end\n"),
        )
        text = b"".join(request for request, _ in requests_and_answers)
        # All at once, and byte by byte.
        for step in (len(text), 1):
            with Wire(self.port) as wire:
                for start in range(0, len(text), step):
                    wire.send(text[start : start + step])
                for _, answer in requests_and_answers:
                    self.assertEqual(wire.answer(), (200, answer))
                self.assertEqual(wire.reader.read(), b"")


class PythonRequests(ClientTest):
    """The library that most of Python's programs use."""

    def setUp(self):
        if requests is None:
            self.skipTest("python3-requests is not installed")
        self.session = requests.Session()
        self.session.trust_env = False
        self.addCleanup(self.session.close)

    def ask(self, method, path, **options):
        return self.session.request(method, self.url + path, timeout=TIMEOUT_SECONDS, **options)

    def connections(self):
        pools = self.session.get_adapter(self.url).poolmanager.pools
        return sum(pools.get(key).num_connections for key in pools.keys())

    def test_a_session_keeps_its_connection(self):
        for number in range(20):
            self.assertEqual(self.ask("GET", f"/hello/{number}").text, f"hello, {number}\n")
        self.assertEqual(self.ask("POST", "/echo", json={"a": [1, 2, "ä"]}).json(), {"a": [1, 2, "ä"]})
        self.assertEqual(self.ask("POST", "/echo", data={"a": "b c"}).text, "a=b+c")
        self.assertEqual(self.ask("GET", "/query", params={"x": "ü & ö", "y": ""}).json(), {"x": "ü & ö", "y": ""})
        self.assertEqual(self.ask("GET", "/users/1/posts/2").json(), {"user": 1, "post": 2})
        self.assertEqual(self.ask("HEAD", "/hello/somebody").headers["Content-Length"], "16")
        self.assertEqual(self.ask("GET", "/status/204").content, b"")
        self.assertEqual(self.ask("GET", "/status/503").status_code, 503)
        sent = {"X-Some": "value", "X-Other": "1"}
        shown = {name.lower(): value for name, value in self.ask("GET", "/headers", headers=sent).json()}
        self.assertLessEqual({name.lower(): value for name, value in sent.items()}.items(), shown.items())
        self.assertEqual(self.connections(), 1)

    def test_bodies_from_a_generator_and_from_files(self):
        data = random_bytes(MEGABYTE)
        parts = lambda: (data[start : start + 10_000] for start in range(0, len(data), 10_000))
        self.assertEqual(self.ask("POST", "/echo", data=parts()).content == data, True)
        count, checksum = self.ask("POST", "/upload", data=parts()).text.split()
        self.assertEqual((int(count), int(checksum, 16)), (len(data), zlib.crc32(data)))
        answer = self.ask("POST", "/echo", files={"file": ("a name", data, "image/png")}, data={"text": "words"})
        self.assertIn(data, answer.content)
        self.assertIn("multipart/form-data", answer.headers["Content-Type"])
        self.assertEqual(self.connections(), 1)

    def test_answers_in_pieces(self):
        with self.ask("GET", "/stream/1000", stream=True) as answer:
            self.assertEqual(answer.headers["Transfer-Encoding"], "chunked")
            self.assertEqual(list(answer.iter_lines()), [b"line %d" % number for number in range(1, 1001)])
        with self.ask("GET", "/events?count=5&ms=1", stream=True) as answer:
            self.assertEqual(answer.headers["Content-Type"].split(";")[0], "text/event-stream")
            self.assertEqual([line for line in answer.iter_lines() if line.startswith(b"data: ")], [b"data: %d" % number for number in range(1, 6)])
        # One that is left in the middle is not waited for.
        with self.ask("GET", "/stream/1000000", stream=True) as answer:
            self.assertEqual(next(answer.iter_lines()), b"line 1")

    def test_compressed(self):
        plain = self.ask("GET", "/compressed", headers={"Accept-Encoding": "identity"})
        compressed = self.ask("GET", "/compressed", headers={"Accept-Encoding": "gzip"})
        self.assertEqual((compressed.headers["Content-Encoding"], compressed.text), ("gzip", plain.text))


class NodeClient(ClientTest):
    """Runs http_client.mjs."""

    def node(self, part):
        node = find_program("node")
        if int(re.search(rb"v(\d+)", self.run_client([node, "--version"]).stdout)[1]) < 18:
            self.skipTest("node is older than fetch")
        said = self.run_client([node, HERE / "http_client.mjs", part, self.url], env=os.environ | {"FERRULE_NODE_MODULES": str(NODE_MODULES)})
        self.assertEqual(said.stdout.decode().splitlines()[-1], "all is well", said)


class Node(NodeClient):
    """node's own clients, http.Agent and fetch."""

    def test_the_agent(self):
        self.node("agent")

    def test_fetch(self):
        self.node("fetch")


class Undici(NodeClient):
    """The client behind fetch by itself, which can pipeline."""

    def test_undici(self):
        if not (NODE_MODULES / "undici").exists():
            self.skipTest("undici is not in FERRULE_NODE_MODULES")
        self.node("undici")


class Browser(ClientTest):
    """Chromium without a window, told what to do by its DevTools protocol. FERRULE_PICTURE names a file for what it would have shown."""

    def setUp(self):
        command = [find_program("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--no-first-run"]
        command += [f"--user-data-dir={self.path}/profile", "--remote-debugging-pipe", "about:blank"]
        # It reads from descriptor 3, and writes to 4.
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (theirs_in, theirs_out)]
        dup = lambda: (os.dup2(high[0], 3), os.dup2(high[1], 4))
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, preexec_fn=dup, pass_fds=(3, 4), **quiet)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        for descriptor in (theirs_in, theirs_out, *high):
            os.close(descriptor)
        self.writer, self.reader = os.fdopen(ours_out, "wb", 0), os.fdopen(ours_in, "rb")
        self.addCleanup(self.writer.close)
        self.addCleanup(self.reader.close)
        # A reader waits for no longer than the browser lives.
        timer = threading.Timer(TIMEOUT_SECONDS, self.process.kill)
        timer.start()
        self.addCleanup(timer.cancel)
        self.said, self.number, self.session = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def next_message(self):
        while b"\0" not in self.said:
            piece = os.read(self.reader.fileno(), MEGABYTE)
            self.assertTrue(piece, "chromium has ended")
            self.said += piece
        message, _, self.said = self.said.partition(b"\0")
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters} | ({"sessionId": self.session} if self.session else {})
        text = json.dumps(message).encode() + b"\0"
        while text:
            text = text[self.writer.write(text) :]
        while (message := self.next_message()).get("id") != self.number:
            pass
        self.assertIn("result", message, message)
        return message["result"]

    def open(self, path):
        self.call("Page.navigate", url=self.url + path)
        # The answer and the event come in any order, so the page itself is asked.
        self.evaluate("new Promise(done => document.readyState === 'complete' ? done(1) : addEventListener('load', () => done(1)))")

    def evaluate(self, expression):
        """What a promise in the page becomes."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        self.assertNotIn("exceptionDetails", result)
        return result["result"].get("value")

    def test_a_page_shows_the_events_that_the_server_sends(self):
        self.open("/page")
        done = "const look = () => document.title === 'done' ? done(document.body.innerText) : setTimeout(look, 10); look()"
        text = self.evaluate(f"new Promise(done => {{ {done}; }})")
        self.assertRegex(text, r"(?s)\b1\b.*\b2\b.*\b3\b.*\b4\b.*\b5\b")
        picture = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        self.assertTrue(picture.startswith(b"\x89PNG"))
        if "FERRULE_PICTURE" in os.environ:
            pathlib.Path(os.environ["FERRULE_PICTURE"]).write_bytes(picture)

    def test_event_source_has_each_event_with_its_number(self):
        self.open("/hello/somebody")
        events = self.evaluate("""new Promise((done, failed) => {
            const events = [], source = new EventSource('/events?count=20&ms=5');
            source.onmessage = event => events.push([event.lastEventId, event.data]);
            source.onerror = () => (source.close(), events.length > 0 ? done(events) : failed());
        })""")
        self.assertEqual(events, [[str(number), str(number)] for number in range(1, 21)])

    def test_fetch(self):
        self.open("/hello/somebody")
        self.assertEqual(self.evaluate("document.body.innerText.trim()"), "hello, somebody")
        self.assertEqual(self.evaluate("fetch('/echo', {method: 'POST', body: 'text'}).then(answer => answer.text())"), "text")
        several = "Promise.all([...Array(100).keys()].map(number => fetch('/hello/' + number).then(answer => answer.text())))"
        self.assertEqual(self.evaluate(several), [f"hello, {number}\n" for number in range(100)])
        compressed = "fetch('/compressed').then(answer => answer.text().then(text => [answer.headers.get('Content-Encoding'), text.length]))"
        coding, length = self.evaluate(compressed)
        self.assertIn(coding, ("gzip", "br"))
        self.assertGreater(length, 5000)
        blob = "new Blob([new Uint8Array(3000000).fill(7)])"
        self.assertEqual(self.evaluate(f"fetch('/echo', {{method: 'POST', body: {blob}}}).then(a => a.blob()).then(b => b.size)"), 3_000_000)


class Slow(ClientTest):
    """slowhttptest, which is slow in four ways. Others are served meanwhile, and nothing is left of it afterwards."""

    CONNECTIONS = 100

    def attack(self, *arguments, seconds, holds=True):
        """What it says. An attack that is not answered at once holds its connections."""
        command = [find_program("slowhttptest"), "-c", str(self.CONNECTIONS), "-r", str(self.CONNECTIONS), "-l", str(seconds), "-p", "60"]
        with open(self.path / "attack", "wb") as log:
            attacker = subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        said = lambda: re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", (self.path / "attack").read_text(errors="replace"))
        self.addCleanup(attacker.wait)
        self.addCleanup(attacker.kill)
        wait_until(lambda: self.server.established() >= self.CONNECTIONS or attacker.poll() is not None, said)
        answered = 0
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        with contextlib.closing(client):
            while attacker.poll() is None:
                client.request("POST", "/echo", body=b"%d" % answered)
                self.assertEqual(client.getresponse().read(), b"%d" % answered)
                answered += attacker.poll() is None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    attacker.wait(0.01)
        self.assertEqual(attacker.returncode, 0, said())
        self.assertGreater(answered, 0 if holds else -1)
        self.assertRegex(said(), r"service available: +YES")
        self.assertNotRegex(said(), r"service available: +NO")
        wait_until(lambda: self.server.established() == 0, lambda: f"{self.server.established()} connections are left")
        return said()

    def test_slow_heads_are_ended(self):
        self.assertIn("No open connections left", self.attack("-H", "-i", "1", "-u", f"{self.url}/", seconds=90))

    def test_slow_bodies_are_ended(self):
        self.assertIn("No open connections left", self.attack("-B", "-i", "1", "-u", f"{self.url}/upload", seconds=90))

    def test_many_ranges_are_answered_and_over(self):
        said = self.attack("-R", "-t", "GET", "-a", "1", "-b", "3000", "-u", f"{self.url}/", seconds=90, holds=False)
        self.assertIn("No open connections left", said)

    def test_slow_readers_hold_up_nobody(self):
        self.attack("-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-u", f"{self.url}/stream/1000000", seconds=5)


    def test_h1_06_who_is_slow_is_told_so(self):
        body = b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nbegun"
        with Wire(self.port) as head, Wire(self.port) as upload:
            head.send(b"GET / HTTP/1.1\r\nHost: te")
            upload.send(body)
            for wire in (head, upload):
                self.assertEqual(wire.answer()[0], 408)
                self.assertEqual(wire.reader.read(), b"")


class Conversation(threading.Thread):
    """Requests one after the other, as a client makes them: over another connection when the answer says that this one ends."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.over, self.answered, self.by, self.broken = port, False, {}, None, None

    def run(self):
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)) as connection:
                while not self.over:
                    connection.request("GET", "/restart-id")
                    answer = connection.getresponse()
                    process = int(answer.read())
                    if answer.status != 200:
                        raise RuntimeError(f"status {answer.status}")
                    self.answered[process] = self.answered.get(process, 0) + 1
                    time.sleep(0.001)  # or all the threads would wait for each other's turn of the interpreter
        except Exception as error:  # a reset, a refused connection, half an answer, none
            self.broken = repr(error)

    def answers_of(self, process):
        return self.answered.get(process, 0)


class Restarts(unittest.TestCase):
    """A process takes over from the one before, under load: no request fails, no connection is refused."""

    CONNECTIONS = 32

    def restart(self, times, load, command, results):
        with folder() as path, contextlib.ExitStack() as ending:
            # A client may be slow to ask again where all processors are busy; who never does would wait for the end of this.
            arguments = ("--restart-socket", str(path / "restart"), "--drain-grace", "8000")

            def start(number):
                # More reactors than before, fewer, and as many.
                served = Served(path, *arguments, "--port", str(port), "--reactors", str((2, 3, 1, 2, 2)[number % 5]))
                ending.callback(served.kill)
                return served

            port = 0
            server = start(0)
            port = server.port
            loading = subprocess.Popen(command(server.url), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            ending.callback(loading.wait)
            ending.callback(loading.kill)
            conversations = [Conversation(server.port) for _ in range(4)]
            for conversation in conversations:
                conversation.start()

            def under_load(process):
                """Until all are served by this one."""
                def served():
                    if loading.poll() is not None or any(conversation.broken for conversation in conversations):
                        return True
                    few = any(conversation.answers_of(process) < 20 for conversation in conversations)
                    return not few and server.established() >= self.CONNECTIONS + len(conversations)
                wait_until(served, lambda: f"{server.established()} connections, {[c.answered for c in conversations]}, {server.said()}")
                self.assertEqual([conversation.broken for conversation in conversations if conversation.broken], [])
                self.assertIsNone(loading.poll(), f"{load} has ended")

            under_load(server.process.pid)
            for number in range(1, times + 1):
                fresh = start(number)
                self.assertEqual(fresh.port, server.port)
                server.wait()
                self.assertIn("has taken over", server.said())
                server = fresh
                under_load(server.process.pid)
            for conversation in conversations:
                conversation.over = True
            loading.send_signal(signal.SIGINT)
            said = loading.communicate(timeout=TIMEOUT_SECONDS)[0]
            for conversation in conversations:
                conversation.join(TIMEOUT_SECONDS)
            self.assertEqual([conversation.broken for conversation in conversations if conversation.broken], [])
            server.stop()
            self.assertEqual(loading.returncode, 0, said)
            print(f"{times} restarts under {load}: {results(said)}, and {sum(sum(c.answered.values()) for c in conversations)} of conversations")

    def under_wrk(self, times):
        command = [find_program("wrk"), "--threads", "1", "--connections", str(self.CONNECTIONS), "--duration", "600s", "--timeout", "60s"]

        def results(said):
            self.assertNotIn("Socket errors", said)
            self.assertNotIn("Non-2xx", said)
            answers = int(re.search(r"(\d+) requests in", said)[1])
            self.assertGreater(answers, 0)
            return f"{answers} answers"

        self.restart(times, "wrk", lambda url: [*command, url], results)

    def under_autocannon(self, times):
        if not (NODE_MODULES / "autocannon").exists():
            self.skipTest("autocannon is not in FERRULE_NODE_MODULES")
        node = [find_program("node"), HERE / "http_client.mjs", "autocannon"]

        def results(said):
            found = json.loads(said)
            self.assertEqual({name: found[name] for name in ("errors", "timeouts", "non2xx", "mismatches")},
                             {"errors": 0, "timeouts": 0, "non2xx": 0, "mismatches": 0})  # fmt: skip
            self.assertGreater(found["2xx"], 0)
            return f"{found['2xx']} answers"

        self.restart(times, "autocannon", lambda url: [*node, url, str(self.CONNECTIONS)], results)


class Restart(Restarts):
    def test_three_times_under_wrk(self):
        self.under_wrk(3)


class RestartTenTimesUnderWrk(Restarts):
    def test_under_wrk(self):
        self.under_wrk(10)


class RestartTenTimesUnderAutocannon(Restarts):
    def test_under_autocannon(self):
        self.under_autocannon(10)


class Load(ClientTest):
    """Tools that measure: none of them may find anything wrong."""

    def wrk(self, *arguments):
        command = [find_program("wrk"), "--threads", "1", "--connections", "16", "--duration", "1s", "--timeout", "60s", *arguments]
        said = self.run_client(command).stdout.decode()
        self.assertNotIn("Socket errors", said)
        self.assertNotIn("Non-2xx", said)
        self.assertGreater(int(re.search(r"(\d+) requests in", said)[1]), 0, said)

    def script(self, text):
        (self.path / "script.lua").write_text(text)
        return ("--script", self.path / "script.lua")

    def test_wrk(self):
        self.wrk(f"{self.url}/users/1/posts/2")

    def test_wrk_sixteen_at_once(self):
        pipelined = "init = function() local one = wrk.format(nil, '/') all = string.rep(one, 16) end\nrequest = function() return all end\n"
        self.wrk(*self.script(pipelined), self.url)

    def test_wrk_posts(self):
        self.wrk(*self.script("wrk.method = 'POST'\nwrk.body = string.rep('x', 20000)\n"), f"{self.url}/echo")

    def test_h2load(self):
        (self.path / "body").write_bytes(random_bytes(5000))
        for requests_in_all, arguments in (
            (5000, ("-m", "1", f"{self.url}/hello/somebody")),
            (10000, ("-m", "16", self.url)),
            (500, ("-m", "4", f"{self.url}/stream/20")),
            (1000, ("-m", "4", "-d", self.path / "body", f"{self.url}/echo")),
        ):
            command = [find_program("h2load"), "--h1", "-t", "1", "-c", "8", "-n", str(requests_in_all), *arguments]
            said = self.run_client(command).stdout.decode()
            self.assertIn(f"{requests_in_all} succeeded, 0 failed, 0 errored, 0 timeout", said)
            self.assertIn(f"status codes: {requests_in_all} 2xx, 0 3xx, 0 4xx, 0 5xx", said)

    def test_ab(self):
        (self.path / "body").write_bytes(random_bytes(5000))
        for requests_in_all, arguments in (
            (3000, ("-k", f"{self.url}/hello/somebody")),
            (500, (f"{self.url}/hello/somebody",)),
            (500, ("-k", "-T", "application/x-test", "-p", self.path / "body", f"{self.url}/echo")),
        ):
            command = [find_program("ab"), "-q", "-s", "100", "-c", "8", "-n", str(requests_in_all), *arguments]
            said = self.run_client(command).stdout.decode()
            self.assertRegex(said, rf"Complete requests: +{requests_in_all}\n")
            self.assertRegex(said, r"Failed requests: +0\n")
            self.assertNotIn("Non-2xx", said)
            if "-k" in arguments:
                self.assertRegex(said, rf"Keep-Alive requests: +{requests_in_all}\n")


class Autocannon(ClientTest):
    def test_autocannon(self):
        node = find_program("node")
        if not (NODE_MODULES / "autocannon").exists():
            self.skipTest("autocannon is not in FERRULE_NODE_MODULES")
        found = json.loads(self.run_client([node, HERE / "http_client.mjs", "autocannon", f"{self.url}/hello/somebody", "8", "5000"]).stdout)
        self.assertEqual((found["2xx"], found["non2xx"], found["errors"], found["timeouts"]), (5000, 0, 0, 0))


if __name__ == "__main__":
    ended = unittest.main(exit=False, verbosity=2).result
    for test, reason in ended.skipped:
        print(f"SKIPPED: {test.id().split('.', 1)[1]}: {reason}")
    sys.exit(1 if not ended.wasSuccessful() else 77 if ended.skipped and len(ended.skipped) == ended.testsRun else 0)
