"""Clients that are slow on purpose, beside honest ones, against a program with the defences on.

Usage: slow_clients_test.py PLAYGROUND [test...]. Without slowhttptest(1) its own test is skipped: when that is all, the exit status is 77.
"""

import contextlib
import errno
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

# What would end them without a defence comes after 60 s: these are the defaults of the timeouts.
PATIENCE_SECONDS = 45
PLAYGROUND = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".").resolve()
HONEST, HOSTILE, GREEDY = "127.0.0.2", "127.0.0.3", "127.0.0.4"
OF_EACH_KIND = 8
PER_ADDRESS = 100
REQUEST = b"GET /0 HTTP/1.1\r\nHost: slow\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nafter 0 ms\n"


@contextlib.contextmanager
def timer(*arguments):
    """Its port, while it runs; it must end in order. It answers as soon as it is asked, as these tests ask it."""
    command = [PLAYGROUND / "timer", "--host", "127.0.0.1", "--port", "0", "--reactors", "2", *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())[1])
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_SECONDS)
            if process.returncode != 0:
                raise RuntimeError(f"timer has ended with {process.returncode}")
        finally:
            process.kill()


def connect(port, source, **options):
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        for name, value in options.items():
            connection.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        connection.settimeout(PATIENCE_SECONDS)
        connection.bind((source, 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect(("127.0.0.1", port))
    except OSError:
        connection.close()
        raise
    return connection


class SlowClient:
    """A connection that sends a piece at each step, and at most takes a few bytes. `over` when the server has ended it."""

    def __init__(self, port, first=b"", drip=b"", greedy=False, takes=4096, **options):
        self.connection = connect(port, HOSTILE, **options)
        self.connection.setblocking(False)
        self.drip, self.greedy, self.takes = drip, greedy, takes
        self.received = b""
        self.over = False
        self.unsent = first

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def step(self):
        try:
            self.send()
            # What the last one of the server's bytes are does not matter to one that drips on behind them.
            piece = self.connection.recv(self.takes)
            self.received += piece
            if not piece and not self.drip and not self.greedy:
                self.over = True
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE):
                raise
            self.over = True

    def send(self):
        self.unsent += self.drip
        while self.unsent or self.greedy:
            if self.greedy and len(self.unsent) < len(self.drip):
                self.unsent += self.drip
            self.unsent = self.unsent[self.connection.send(self.unsent) :]
            if self.greedy and not select.select([], [self.connection], [], 0)[1]:
                return


def silent(port):
    return SlowClient(port)


def slow_head(port):
    return SlowClient(port, first=REQUEST[:-2], drip=b"X-a: b\r\n")


def slow_body(port):
    return SlowClient(port, first=b"POST /0 HTTP/1.1\r\nHost: slow\r\nContent-Length: 100000\r\n\r\n", drip=b"x")


def slow_read(port):
    # As many requests as the server takes, and hardly a byte of the answers, which have no room in the window.
    return SlowClient(port, drip=REQUEST * 100, greedy=True, takes=1, SO_RCVBUF=4096)


def many_ranges(port):
    ranges = ",".join(f"5-{end}" for end in range(2000))
    return SlowClient(port, first=f"GET /0 HTTP/1.1\r\nHost: slow\r\nRange: bytes=0-,{ranges}\r\n\r\n".encode())


class HonestClient(threading.Thread):
    """Asks again and again, over one connection and over new ones. Where the machine is so busy that its own first byte comes too late, it asks
    again."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.finished, self.answered, self.broken = port, False, 0, None

    def run(self):
        try:
            while not self.finished:
                with connect(self.port, HONEST) as connection:
                    if not self.ask(connection, may_be_late=True):
                        continue
                    for _ in range(20):
                        self.ask(connection)
        except Exception as error:  # pylint: disable=broad-except
            self.broken = f"after {self.answered} answers: {error!r}"

    def ask(self, connection, may_be_late=False):
        """False when there is no answer."""
        answer = b""
        try:
            connection.sendall(REQUEST)
            while len(answer) < len(ANSWER) and (piece := connection.recv(len(ANSWER) - len(answer))):
                answer += piece
        except (ConnectionResetError, BrokenPipeError):
            if not may_be_late:
                raise
        if answer == ANSWER:
            self.answered += 1
            return True
        if answer or not may_be_late:
            raise RuntimeError(f"the connection has ended behind {answer}")
        return False


class SlowClients(unittest.TestCase):
    def test_each_kind_is_ended_and_honest_clients_are_served_meanwhile(self):
        defences = ["--first-byte", "1000", "--least-rate", "2000", "--rate-window", "500", "--per-address", str(PER_ADDRESS)]
        with timer(*defences) as port, contextlib.ExitStack() as open_ones:
            honest = [HonestClient(port) for _ in range(2)]
            for client in honest:
                client.start()
            kinds = {kind.__name__: [open_ones.enter_context(kind(port)) for _ in range(OF_EACH_KIND)]
                     for kind in (silent, slow_head, slow_body, slow_read, many_ranges)}
            everybody = [client for clients in kinds.values() for client in clients]
            until = time.monotonic() + PATIENCE_SECONDS
            while not all(client.over for client in everybody) and time.monotonic() < until:
                for client in everybody:
                    if not client.over:
                        client.step()
                time.sleep(0.02)  # the drip
            left = {name: sum(not client.over for client in clients) for name, clients in kinds.items()}
            self.assertEqual(left, dict.fromkeys(kinds, 0), "so many of each kind were not ended")
            for client in kinds["silent"] + kinds["slow_head"]:
                self.assertEqual(client.received, b"")
            # These get the answer that there is for them.
            for client in kinds["slow_body"]:
                self.assertIn(client.received[:12], (b"HTTP/1.1 405", b""))
            for client in kinds["many_ranges"]:
                self.assertIn(client.received[:12], (b"HTTP/1.1 431", b""))
            for client in honest:
                client.finished = True
                client.join(PATIENCE_SECONDS)
                self.assertIsNone(client.broken)
                self.assertGreater(client.answered, 0)

    def test_one_client_has_no_more_connections_than_it_may_on_all_reactors_together(self):
        with timer("--per-address", "5") as port:
            self.assertEqual(self.answered_of(port, 20), 5)
            # They have left, and it may come again.
            until = time.monotonic() + PATIENCE_SECONDS
            while self.answered_of(port, 1) != 1:
                self.assertLess(time.monotonic(), until)

    @staticmethod
    def answered_of(port, count):
        """How many connections of one client are served at the same time."""
        with contextlib.ExitStack() as open_ones:
            connections = []
            for _ in range(count):
                with contextlib.suppress(ConnectionResetError):
                    connections.append(open_ones.enter_context(connect(port, GREEDY)))
            answered = 0
            for connection in connections:
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    connection.sendall(REQUEST)
                    answered += connection.recv(1) != b""
            return answered


class SlowHttpTest(unittest.TestCase):
    """The tool that such attacks are usually tried with."""

    def test_its_connections_are_ended_and_the_service_goes_on(self):
        program = shutil.which("slowhttptest")
        if program is None:
            self.skipTest("slowhttptest is not installed")
        with timer("--first-byte", "1000", "--least-rate", "2000", "--rate-window", "500") as port:
            honest = HonestClient(port)
            honest.start()
            for mode in ("-H", "-B", "-R"):
                self.assertIn("No open connections left", self.attack(program, port, mode, "-l", str(PATIENCE_SECONDS)))
            # What it asks for here is smaller than the buffers: it reads slowly, and nobody waits for it.
            self.attack(program, port, "-X", "-k", "5", "-w", "64", "-y", "64", "-n", "1", "-z", "8", "-l", "4")
            honest.finished = True
            honest.join(PATIENCE_SECONDS)
            self.assertIsNone(honest.broken)
            self.assertGreater(honest.answered, 0)

    def attack(self, program, port, *mode):
        """What it says of its attack."""
        command = [program, *mode, "-c", "100", "-r", "100", "-i", "1", "-p", str(PATIENCE_SECONDS), "-u", f"http://127.0.0.1:{port}/0"]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * PATIENCE_SECONDS)
        said = re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout)
        self.assertRegex(said, r"service available:\s*YES", ended.stderr)
        self.assertNotRegex(said, r"service available:\s*NO", f"{mode}")
        return said


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=2)
    skipped_all = program.result.testsRun == len(program.result.skipped) and program.result.testsRun != 0
    for _, reason in program.result.skipped:
        print(f"SKIPPED: {reason}")
    sys.exit(1 if not program.result.wasSuccessful() else 77 if skipped_all else 0)
