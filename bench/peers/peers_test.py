"""Tests that every peer answers correctly: a fast peer that is wrong would be no measure. Usage: peers_test.py BUILD/bench"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import unittest
import urllib.request

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
TIMEOUT_SECONDS = 30
PROGRAMS = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".")
SOURCES = pathlib.Path(__file__).resolve().parent
ITEMS = SOURCES.parents[1] / "playground/arena-items.json"
PEERS = [name for name in ("raw_uring", "raw_epoll", "asio_epoll", "asio_uring") if os.access(PROGRAMS / name, os.X_OK)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command, *options):
    """The port of a peer that accepts connections."""
    port = free_port()
    name = command[-1]
    with subprocess.Popen([*command, "--port", str(port), *options]) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if process.poll() is not None:
                        raise RuntimeError(f"{name} ended with status {process.returncode}")
            yield port
        finally:
            process.kill()


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)


def receive(client, count):
    data = bytearray()
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)


def for_each_peer(*options):
    def decorate(test):
        def run(self):
            for name in PEERS:
                with self.subTest(peer=name), running([PROGRAMS / name], *options) as port:
                    test(self, port)

        return run

    return decorate


class KeepAlive(unittest.TestCase):
    @for_each_peer()
    def test_one_request_after_the_other(self, port):
        with connect(port) as client:
            for _ in range(3):
                client.sendall(REQUEST)
                self.assertEqual(receive(client, len(ANSWER)), ANSWER)

    @for_each_peer()
    def test_a_head_in_any_two_pieces(self, port):
        with connect(port) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for cut in range(1, len(REQUEST)):
                client.sendall(REQUEST[:cut])
                # An answered request on another connection proves that the first piece has been read.
                with connect(port) as other:
                    other.sendall(REQUEST)
                    receive(other, len(ANSWER))
                client.sendall(REQUEST[cut:])
                self.assertEqual(receive(client, len(ANSWER)), ANSWER)

    @for_each_peer()
    def test_pipelined_requests_have_one_answer_each(self, port):
        with connect(port) as client:
            client.sendall(REQUEST * 500)
            self.assertEqual(receive(client, len(ANSWER) * 500), ANSWER * 500)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(client.recv(1), b"")

    @for_each_peer()
    def test_lines_that_look_like_an_end_are_none(self, port):
        with connect(port) as client:
            client.sendall(b"GET / HTTP/1.1\r\nA: b\r\r\nC: d\n\nE: \r\n\rf\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive(client, 2 * len(ANSWER)), ANSWER)

    @for_each_peer()
    def test_a_slow_reader_gets_every_answer_whole(self, port):
        # Far more answers than both socket buffers hold, so that sends are short and wait for room.
        count = 600000
        with connect(port) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sender = threading.Thread(target=client.sendall, args=(REQUEST * count,))
            sender.start()
            received = receive(client, len(ANSWER) * count)
            sender.join()
            self.assertTrue(received == ANSWER * count)

    @for_each_peer()
    def test_a_reset_leaves_the_server_serving(self, port):
        for _ in range(50):
            client = connect(port)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.sendall(REQUEST * 100)
            client.close()
        with connect(port) as client:
            client.sendall(REQUEST)
            self.assertEqual(receive(client, len(ANSWER)), ANSWER)


def json_servers():
    """Each server of JSON that is there, by its name."""
    if os.access(PROGRAMS / "beast_json", os.X_OK):
        yield "beast", [PROGRAMS / "beast_json"]
    if os.access(PROGRAMS / "go_json", os.X_OK):
        yield "go", [PROGRAMS / "go_json"]
    if shutil.which("node"):
        yield "node", ["node", SOURCES / "json_server.js"]


class Json(unittest.TestCase):
    def test_all_answer_the_same(self):
        for name, command in json_servers():
            with self.subTest(peer=name), running(command, "--dataset", str(ITEMS)) as port:
                for count, factor in ((1, 1), (25, 4), (50, -3)):
                    expected = json.loads(ITEMS.read_text())[:count]
                    for item in expected:
                        item["total"] = item["price"] * item["quantity"] * factor
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/{count}?m={factor}", timeout=TIMEOUT_SECONDS) as answer:
                        self.assertEqual(answer.headers["Content-Type"], "application/json")
                        text = answer.read().decode()
                    self.assertEqual(json.loads(text), {"items": expected, "count": count})
                    # No white space in it.
                    self.assertEqual(len(text), len(json.dumps({"items": expected, "count": count}, separators=(",", ":"))))


class Churn(unittest.TestCase):
    def exchange(self, port):
        for _ in range(100):
            with connect(port) as client:
                client.sendall(REQUEST)
                self.assertEqual(receive(client, len(ANSWER) + 1), ANSWER)

    @for_each_peer("--churn")
    def test_closes_after_its_answer(self, port):
        self.exchange(port)

    @for_each_peer("--churn", "--deferred")
    def test_closes_after_its_answer_with_deferred_accept(self, port):
        self.exchange(port)

    @for_each_peer("--churn")
    def test_a_head_in_two_pieces(self, port):
        with connect(port) as client:
            client.sendall(REQUEST[:10])
            with connect(port) as other:
                other.sendall(REQUEST)
                receive(other, len(ANSWER))
            client.sendall(REQUEST[10:])
            self.assertEqual(receive(client, len(ANSWER) + 1), ANSWER)


if __name__ == "__main__":
    if not PEERS:
        sys.exit(f"no peer in {PROGRAMS}")
    unittest.main()
