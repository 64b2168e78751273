"""Programs of the playground over their lives: restarts under load, and systemd, or what stands in its place.

Usage: life_cycle_test.py PLAYGROUND UNITS [test...], where UNITS is the folder of the unit files. What is not installed is skipped: when that
is all, the exit status is 77.
"""

import contextlib
import os
import pathlib
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

TIMEOUT_SECONDS = 100
PLAYGROUND = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".").resolve()
UNITS = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".").resolve()


@contextlib.contextmanager
def folder():
    """A folder whose path is short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ferrule-", ignore_cleanup_errors=True) as path:
        yield pathlib.Path(path)


class Program:
    """A running program of the playground, when it has said where it listens."""

    def __init__(self, name, *arguments, **options):
        self.process = subprocess.Popen(
            [PLAYGROUND / name, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )
        self.first_line = self.process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", self.first_line)
        self.port = int(found[1]) if found else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(TIMEOUT_SECONDS)
        self.process.stdout.close()

    def end(self):
        """Its exit status and the rest of what it says."""
        rest = self.process.communicate(timeout=TIMEOUT_SECONDS)[0]
        return self.process.returncode, rest


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Conversation(threading.Thread):
    """Numbered messages, each of which has to come back whole. Where the server ends the connection between two of them, the conversation goes
    on over another one, with the message that was not answered."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.over, self.answered, self.connections, self.broken = port, False, 0, 0, None

    def run(self):
        try:
            while not self.over:
                self.connections += 1
                with connect(self.port) as connection:
                    while not self.over and self.exchange(connection, b"message %d of a conversation\n" % self.answered):
                        self.answered += 1
                        time.sleep(0.001)  # or all the threads would wait for each other's turn of the interpreter
        except Exception as error:  # a reset, a refused connection, half an answer
            self.broken = f"message {self.answered}: {error!r}"

    def exchange(self, connection, message):
        """False when the server has ended the connection instead of an answer."""
        with contextlib.suppress(BrokenPipeError):  # its FIN has been there for long
            connection.sendall(message)
        answer = b""
        while len(answer) != len(message):
            piece = connection.recv(len(message) - len(answer))
            if not piece and not answer:
                return False
            if not piece:
                raise RuntimeError(f"half an answer: {answer}")
            answer += piece
        if answer != message:
            raise RuntimeError(f"another answer: {answer}")
        return True

    def wait_for(self, answered):
        """Until so many were answered; False when it is broken."""
        while self.answered < answered and self.is_alive():
            self.join(0.01)
        return self.broken is None


class Restarts(unittest.TestCase):
    """A process takes over from the one before, under load."""

    def restart(self, times, conversations, messages):
        with folder() as path, contextlib.ExitStack() as programs:
            arguments = ["--host", "127.0.0.1", "--port", "0", "--restart-socket", str(path / "restart")]

            def start(number):
                # More reactors than before, fewer, and as many.
                program = Program("echo", *arguments, "--reactors", str((2, 3, 1, 2, 2)[number % 5]))
                return programs.enter_context(program)

            server = start(0)
            talking = [Conversation(server.port) for _ in range(conversations)]
            for conversation in talking:
                conversation.start()
            for number in range(1, times + 1):
                fresh = start(number)
                self.assertEqual(fresh.port, server.port, fresh.first_line)
                status, said = server.end()
                self.assertEqual(status, 0, said)
                self.assertIn("has taken over", said)
                server = fresh
                # Only the new one is left to answer.
                for conversation, before in [(conversation, conversation.answered) for conversation in talking]:
                    self.assertTrue(conversation.wait_for(before + messages), conversation.broken)
            for conversation in talking:
                conversation.over = True
            for conversation in talking:
                conversation.join(TIMEOUT_SECONDS)
            self.assertEqual([conversation.broken for conversation in talking if conversation.broken], [])
            server.process.terminate()
            status, said = server.end()
            self.assertEqual(status, 0, said)
            self.assertFalse((path / "restart").exists())
            answered = sum(conversation.answered for conversation in talking)
            connections = sum(conversation.connections for conversation in talking)
            print(f"{times} restarts, {conversations} conversations: {answered} messages over {connections} connections, none broken")


class Short(Restarts):
    def test_three_restarts(self):
        self.restart(times=3, conversations=6, messages=20)


class Long(Restarts):
    def test_ten_restarts(self):
        self.restart(times=10, conversations=32, messages=100)


class Example(unittest.TestCase):
    """The program that shows it."""

    def test_the_second_answers_in_the_place_of_the_first(self):
        with folder() as path:
            arguments = ["--host", "127.0.0.1", "--port", "0", "--reactors", "2", "--restart-socket", str(path / "restart")]
            with Program("restart", *arguments, "--name", "first") as first, connect(first.port) as idle:
                idle.sendall(b"hello\nworld\n")
                self.assertEqual(self.receive(idle, 26), b"first: hello\nfirst: world\n")
                (path / "name").write_text("second\n")
                with Program("restart", *arguments, "--name-file", str(path / "name")) as second:
                    self.assertEqual(idle.recv(1), b"")
                    idle.close()
                    status, said = first.end()
                    self.assertEqual(status, 0, said)
                    self.assertIn("draining: ", said)
                    self.assertIn("draining: 0 connections on 0 reactors, 0 ms left\n", said)
                    with connect(second.port) as connection:
                        self.assertEqual(self.ask(connection), b"second: hello\n")
                        # A reload has the file read again, and a file that is not there changes nothing.
                        (path / "name").rename(path / "away")
                        second.process.send_signal(signal.SIGHUP)
                        self.assertIn("reload: cannot read", second.process.stdout.readline())
                        self.assertEqual(self.ask(connection), b"second: hello\n")
                        (path / "name").write_text("2nd\n")
                        second.process.send_signal(signal.SIGHUP)
                        while (answer := self.ask(connection)) != b"2nd: hello\n":
                            self.assertEqual(answer, b"second: hello\n")
                    second.process.terminate()
                    self.assertEqual(second.end()[0], 0)

    def receive(self, connection, count):
        received = b""
        while len(received) != count and (piece := connection.recv(count - len(received))):
            received += piece
        return received

    def ask(self, connection):
        connection.sendall(b"hello\n")
        answer = b""
        while not answer.endswith(b"\n") and (piece := connection.recv(100)):
            answer += piece
        return answer


class Systemd(unittest.TestCase):
    """What systemd's own programs say."""

    def need(self, name):
        if shutil.which(name) is None:
            self.skipTest(f"{name} is not installed")

    def test_the_units_are_right(self):
        self.need("systemd-analyze")
        with folder() as path:
            for unit in ("ferrule-echo.service", "ferrule-echo.socket"):
                text = (UNITS / unit).read_text()
                (path / unit).write_text(re.sub(r"ExecStart=\S+", f"ExecStart={PLAYGROUND}/echo", text))
            checked = subprocess.run(
                ["systemd-analyze", "verify", "--man=no", path / "ferrule-echo.service", path / "ferrule-echo.socket"],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
            )
            about_ours = [line for line in checked.stderr.splitlines() if "ferrule" in line]
            self.assertEqual(about_ours, [])
            self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_a_socket_that_is_passed_becomes_the_port(self):
        self.need("systemd-socket-activate")
        with folder() as path:
            address = str(path / "socket")
            command = ["systemd-socket-activate", "--listen", address, "--fdname", "echo", PLAYGROUND / "echo", "--reactors", "2"]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                try:
                    self.assertIn("Listening on", process.stdout.readline())
                    for _ in range(3):
                        with socket.socket(socket.AF_UNIX) as client:
                            client.settimeout(TIMEOUT_SECONDS)
                            client.connect(address)
                            client.sendall(b"hello")
                            self.assertEqual(client.recv(5, socket.MSG_WAITALL), b"hello")
                    said = ""
                    # It may serve before it says so.
                    while "echo listens on" not in said and (line := process.stdout.readline()):
                        said += line
                    self.assertIn(f"echo listens on unix:{address}\n", said)
                    process.terminate()
                    said += process.communicate(timeout=TIMEOUT_SECONDS)[0]
                    self.assertEqual(process.returncode, 0, said)
                    # Who has made it, has it.
                    self.assertTrue(pathlib.Path(address).exists())
                finally:
                    process.kill()

    def test_the_manager_is_told(self):
        with folder() as path, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(path / "notify"))
            manager.settimeout(TIMEOUT_SECONDS)
            told = os.environ | {"NOTIFY_SOCKET": str(path / "notify"), "WATCHDOG_USEC": "20000"}
            arguments = ["--host", "127.0.0.1", "--port", "0", "--reactors", "2", "--restart-socket", str(path / "restart")]
            with Program("echo", *arguments, env=told) as first:
                self.assertEqual(manager.recv(1000), b"READY=1\nSTATUS=Serving")
                self.assertEqual([manager.recv(1000) for _ in range(3)], [b"WATCHDOG=1"] * 3)
                heard = []
                # It takes ten messages at a time, and there is one every ten milliseconds.
                listener = threading.Thread(target=lambda: heard.extend(iter(lambda: manager.recv(1000), b"end of test")))
                listener.start()
                try:
                    with Program("echo", *arguments, env=told) as second:
                        self.assertEqual(first.end()[0], 0)
                        second.process.terminate()
                        self.assertEqual(second.end()[0], 0)
                finally:
                    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                        end.sendto(b"end of test", str(path / "notify"))
                    listener.join()
                # The service has not ended with the first process.
                states = [message for message in heard if message != b"WATCHDOG=1" and not message.startswith(b"STATUS=")]
                self.assertEqual(
                    states, [b"MAINPID=%d\nREADY=1\nSTATUS=Serving" % second.process.pid, b"STOPPING=1\nSTATUS=Draining"]
                )


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=2)
    result = program.result
    for test, reason in result.skipped:
        print(f"SKIPPED: {test}: {reason}")
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun == len(result.skipped) else 0)
