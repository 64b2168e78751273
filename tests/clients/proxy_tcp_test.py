"""proxy-tcp in front of real services, asked by their own clients. Usage: proxy_tcp_test.py PLAYGROUND [test...]

Each test starts its services in a folder of its own, on Unix sockets or free ports, and ends them. What is not installed is skipped: when
that is all, the exit status is 77.
"""

import contextlib
import glob
import hashlib
import os
import pathlib
import pwd
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TIMEOUT_SECONDS = 100
PLAYGROUND = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".")
MEGABYTE = 1 << 20
# What the proxy may take beyond what it has when it has served a connection: its buffers, and what its sockets' accounts hold.
GROWTH_MAX = 16 * MEGABYTE


def find_program(name):
    """Where a service's program is; skips the test when it is nowhere."""
    path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin:" + ":".join(sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True))
    found = shutil.which(name, path=path)
    if found is None:
        raise unittest.SkipTest(f"{name} is not installed")
    return found


@contextlib.contextmanager
def folder():
    """A folder whose path is short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ferrule-", ignore_cleanup_errors=True) as path:
        yield pathlib.Path(path)


@contextlib.contextmanager
def running(command, log, address=None, **options):
    """A process, when it accepts connections at the address (a path, or a host and a port); ended by SIGTERM."""
    with open(log, "w") as output, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options) as process:
        try:
            until = time.monotonic() + TIMEOUT_SECONDS
            while address is not None and not accepts(address):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{command[0]} does not run: {pathlib.Path(log).read_text()}")
                time.sleep(0.01)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT_SECONDS)
            finally:
                process.kill()


def accepts(address):
    try:
        connect(address).close()
        return True
    except (ConnectionError, FileNotFoundError):
        return False


def connect(address, receive_buffer=None):
    connection = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    connection.settimeout(TIMEOUT_SECONDS)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


class Program:
    """A running program of the playground: the port that it listens on, and what it says."""

    def __init__(self, process, log):
        self.process, self.log = process, log
        until = time.monotonic() + TIMEOUT_SECONDS
        while not (found := re.search(r"127\.0\.0\.1:(\d+)", self.said())):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"it does not listen: {self.said()}")
            time.sleep(0.01)
        self.port = int(found[1])

    def said(self):
        return self.log.read_text()

    def memory(self):
        """The most memory that it has had at once, in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


@contextlib.contextmanager
def program(name, within, *options):
    log = within / f"{name}-{random.randrange(1 << 32):08x}.log"
    with running([str(PLAYGROUND / name), "--host", "127.0.0.1", "--port", "0", *options], log) as process:
        yield Program(process, log)


def run(command, **options):
    """The output of a command that must succeed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=TIMEOUT_SECONDS, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stdout}")
    return done.stdout


class Postgres(unittest.TestCase):
    """PostgreSQL, which speaks first to nobody and keeps its sessions."""

    def test_pgbench_fills_its_tables_and_runs(self):
        tools = {name: find_program(name) for name in ("initdb", "postgres", "pgbench")}
        # The server refuses to be root.
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        with folder() as path:
            if user:
                account = pwd.getpwnam("postgres")
                os.chown(path, account.pw_uid, account.pw_gid)
            data = path / "data"
            run([tools["initdb"], "-D", data, "-A", "trust", "-U", "postgres", "-N", "--locale=C", "-E", "UTF8"], cwd=path, **user)
            server = [tools["postgres"], "-D", data, "-c", "listen_addresses=", "-c", f"unix_socket_directories={path}", "-c", "fsync=off",
                      "-c", "shared_buffers=16MB"]
            with running(server, path / "postgres.log", f"{path}/.s.PGSQL.5432", cwd=path, **user), \
                    program("proxy-tcp", path, "--to", f"unix:{path}/.s.PGSQL.5432", "--reactors", "2") as proxy:
                pgbench = [tools["pgbench"], "-h", "127.0.0.1", "-p", str(proxy.port), "-U", "postgres"]
                self.assertIn("done in", run([*pgbench, "-i", "-q", "-s", "1", "postgres"]))
                for mode in ("simple", "prepared"):
                    said = run([*pgbench, "-n", "-c", "4", "-j", "2", "-t", "50", "-M", mode, "postgres"])
                    self.assertIn("actually processed: 200/200", said)
                self.assertIn("actually processed: 100/100", run([*pgbench, "-n", "-C", "-S", "-c", "4", "-t", "25", "postgres"]))
                self.assertNotIn("client", proxy.said())


class Redis(unittest.TestCase):
    """Redis, with many small messages in a row."""

    def test_redis_benchmark_and_redis_cli(self):
        tools = {name: find_program(name) for name in ("redis-server", "redis-cli", "redis-benchmark")}
        with folder() as path:
            server = [tools["redis-server"], "--port", "0", "--unixsocket", f"{path}/redis", "--save", "", "--appendonly", "no", "--dir", path]
            with running(server, path / "redis.log", f"{path}/redis"), \
                    program("proxy-tcp", path, "--to", f"unix:{path}/redis", "--reactors", "2") as proxy:
                client = [tools["redis-cli"], "-h", "127.0.0.1", "-p", str(proxy.port)]
                self.assertEqual(run([*client, "set", "key", "a value"]), "OK\n")
                self.assertEqual(run([*client, "get", "key"]), "a value\n")
                # A reply of a megabyte.
                self.assertEqual(run([*client, "--raw", "eval", "return string.rep('x', 1048576)", "0"]), "x" * MEGABYTE + "\n")
                said = run([tools["redis-benchmark"], "-h", "127.0.0.1", "-p", str(proxy.port), "-q", "-n", "20000", "-P", "16",
                            "-t", "ping,set,get,lrange_100"])
                for test in ("PING_INLINE", "SET", "GET", "LRANGE_100"):
                    self.assertRegex(said, rf"{test}.*: [\d.]+ requests per second")
                self.assertNotIn("client", proxy.said())


def make_file(path, megabytes):
    """A file no megabyte of which is like another; gives its checksum."""
    checksum, block = hashlib.sha256(), bytearray(random.Random(megabytes).randbytes(MEGABYTE))
    with open(path, "wb") as file:
        for number in range(megabytes):
            block[0:8] = number.to_bytes(8, "big")
            file.write(block)
            checksum.update(block)
    return checksum.hexdigest()


class Nginx(unittest.TestCase):
    """A long download."""

    MEGABYTES = 64

    @contextlib.contextmanager
    def proxy_of_a_file(self, *options):
        nginx = find_program("nginx")
        with folder() as path:
            checksum = make_file(path / "file", self.MEGABYTES)
            user = "user root;" if os.getuid() == 0 else ""
            (path / "nginx.conf").write_text(f"""
                daemon off; master_process off; pid {path}/pid; error_log stderr; {user}
                events {{}}
                http {{ access_log off; sendfile on; server {{ listen unix:{path}/nginx; root {path}; }} }}
            """)
            with running([nginx, "-e", "stderr", "-p", path, "-c", path / "nginx.conf"], path / "nginx.log", f"{path}/nginx"), \
                    program("proxy-tcp", path, "--to", f"unix:{path}/nginx", "--reactors", "1", *options) as proxy:
                yield proxy, checksum

    @contextlib.contextmanager
    def answer(self, proxy, receive_buffer=None):
        """What comes behind the head of the answer."""
        with connect(("127.0.0.1", proxy.port), receive_buffer) as client:
            client.sendall(b"GET /file HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            reader = client.makefile("rb")
            while reader.readline() != b"\r\n":
                pass
            yield reader

    def checksum(self, reader, pauses=0):
        """Of the file, of which the first megabytes are read with so many pauses."""
        checksum = hashlib.sha256()
        for _ in range(pauses):
            checksum.update(reader.read(16 * 1024))
            time.sleep(0.01)
        while data := reader.read(MEGABYTE):
            checksum.update(data)
        return checksum.hexdigest()

    def test_arrives_whole(self):
        with self.proxy_of_a_file() as (proxy, checksum), self.answer(proxy) as reader:
            self.assertEqual(self.checksum(reader), checksum)
            self.assertNotIn("client", proxy.said())

    def test_beside_one_that_takes_nothing_and_holds_all_buffers(self):
        with self.proxy_of_a_file("--buffers", "4") as (proxy, checksum), self.answer(proxy, receive_buffer=4096) as stuck:
            for _ in range(2):
                with self.answer(proxy) as reader:
                    self.assertEqual(self.checksum(reader), checksum)
            self.assertEqual(self.checksum(stuck), checksum)

    def test_of_a_slow_reader_takes_no_more_memory(self):
        with self.proxy_of_a_file() as (proxy, checksum):
            with connect(("127.0.0.1", proxy.port)) as client:
                client.sendall(b"GET /nothing HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                self.assertTrue(client.makefile("rb").read().startswith(b"HTTP/1.1 404"))
            before = proxy.memory()
            # Without back-pressure, all of the file would be in the proxy a fraction of this second later.
            with self.answer(proxy, receive_buffer=64 * 1024) as reader:
                self.assertEqual(self.checksum(reader, pauses=100), checksum)
            self.assertLess(proxy.memory() - before, GROWTH_MAX)


class LongNginx(Nginx):
    """A download of a gibibyte."""

    MEGABYTES = 1024


class Starved(unittest.TestCase):
    """Two proxies, one behind the other, with two small buffers each for all that comes."""

    CONNECTIONS = 12
    BYTES = 2 * MEGABYTE

    def talk(self, port, number, results):
        """Sends and receives at once; what comes back must be what was sent."""
        data = random.Random(number).randbytes(self.BYTES)
        with connect(("127.0.0.1", port)) as client:
            sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
            sender.start()
            received = client.makefile("rb").read()
            sender.join()
        results[number] = received == data

    def test_never_block_each_other(self):
        starving = ["--reactors", "1", "--buffers", "2", "--buffer-size", "512"]
        with folder() as path, program("echo", path, "--reactors", "1") as echo, \
                program("proxy-tcp", path, "--to", f"127.0.0.1:{echo.port}", *starving) as second, \
                program("proxy-tcp", path, "--to", f"127.0.0.1:{second.port}", *starving) as first:
            results = {}
            clients = [threading.Thread(target=self.talk, args=(first.port, number, results)) for number in range(self.CONNECTIONS)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            self.assertEqual(results, {number: True for number in range(self.CONNECTIONS)}, first.said() + second.said())


if __name__ == "__main__":
    ended = unittest.main(exit=False, verbosity=2).result
    for _, reason in ended.skipped:
        print(f"SKIPPED: {reason}")
    sys.exit(1 if not ended.wasSuccessful() else 77 if ended.skipped and len(ended.skipped) == ended.testsRun else 0)
