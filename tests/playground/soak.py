"""Mixed traffic on `echo` for a long time: nothing may drift. Usage: soak.py ECHO [--minutes N] [--visitors N]

Visitors come and go on real sockets: short ones, ones that pause, ones that send much at once, that shut down first, that reset. At the end of each
minute all have left, and the server must have the descriptors that it had before the first. Its memory, and the median of what a small message
takes, are compared between the first half and the second; both are printed, minute by minute. What else the machine does makes messages slower,
too: each of them is followed by one to a plain echo, a program of ten lines that has nothing to drift, and it is the ratio that must not grow.
"""

import argparse
import os
import pathlib
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

MINUTE_SECONDS = 60.0
PATIENCE_SECONDS = 30
# Pages that are touched for the first time are no leak: what the second half has beyond the first, in bytes.
GROWTH_MAX = 1 << 20
SLOWER_MAX = 1.5
PAGE = os.sysconf("SC_PAGE_SIZE")
SMALL = 64

PLAIN_ECHO = """
import selectors, socket
listener = socket.create_server(("127.0.0.1", 0), backlog=128)
print(listener.getsockname()[1], flush=True)
ready = selectors.DefaultSelector()
ready.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        if key.fileobj is listener:
            ready.register(listener.accept()[0], selectors.EVENT_READ)
        elif message := key.fileobj.recv(4096):
            key.fileobj.sendall(message)
        else:
            ready.unregister(key.fileobj)
            key.fileobj.close()
"""


class Server:
    """The program, and what the system says of it."""

    def __init__(self, program):
        self.process = subprocess.Popen([program, "--host", "127.0.0.1", "--port", "0", "--reactors", "2"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, text=True)
        self.address = ("127.0.0.1", int(self.process.stdout.readline().rsplit(":", 1)[1]))
        self.folder = pathlib.Path("/proc") / str(self.process.pid)

    def descriptors(self):
        return len(list((self.folder / "fd").iterdir()))

    def resident_bytes(self):
        return int((self.folder / "statm").read_text().split()[1]) * PAGE

    def cpu_seconds(self):
        fields = (self.folder / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class PlainEcho:
    """The program that messages are compared with."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-c", PLAIN_ECHO], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.address = ("127.0.0.1", int(self.process.stdout.readline()))


def connect(address):
    connection = socket.create_connection(address, PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection, count):
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise RuntimeError(f"the stream ended after {len(parts)} of {count} bytes")
        parts += part
    return bytes(parts)


def exchange(connection, message):
    began = time.monotonic()
    # What is larger than both sockets' buffers must be sent and received at once.
    sender = threading.Thread(target=connection.sendall, args=(message,)) if len(message) > 10_000 else None
    if sender is None:
        connection.sendall(message)
    else:
        sender.start()
    if receive(connection, len(message)) != message:
        raise RuntimeError("an echo differs from what was sent")
    if sender is not None:
        sender.join()
    return time.monotonic() - began


def visit(address, plain, chance, times):
    with connect(address) as connection:
        size = chance.choice((16, SMALL, SMALL, SMALL, 1_000, 4_096, 50_000, 500_000))
        pause = chance.choice((0.0, 0.0, 0.0, 0.01, 0.5))
        for _ in range(chance.randrange(1, 200 if pause == 0.0 and size <= 4_096 else 6)):
            took = exchange(connection, chance.randbytes(size))
            if size == SMALL:
                times.append((took, exchange(plain, chance.randbytes(size))))
            time.sleep(pause)
        ending = chance.randrange(4)
        if ending == 0:
            connection.sendall(b"half a message")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif ending == 1:
            connection.shutdown(socket.SHUT_WR)
            if connection.recv(1) != b"":
                raise RuntimeError("there is something behind the last echo")


def live_through(address, plain_address, until, times, count, failures):
    chance = random.Random()
    try:
        with connect(plain_address) as plain:
            while time.monotonic() < until and not failures:
                visit(address, plain, chance, times)
                count.append(1)
    except Exception as error:  # pylint: disable=broad-except
        failures.append(error)


def minute(server, plain, visitors, began, descriptors):
    """The medians of the minute in seconds, the server's and that of the plain echo, its visits, and the memory at its end."""
    times, count, failures = [], [], []
    threads = [threading.Thread(target=live_through, args=(server.address, plain.address, began + MINUTE_SECONDS, times, count, failures))
               for _ in range(visitors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    until = time.monotonic() + PATIENCE_SECONDS
    while server.descriptors() != descriptors:
        if time.monotonic() > until:
            raise RuntimeError(f"{server.descriptors()} descriptors are open when all have left; {descriptors} were before")
        time.sleep(0.05)
    medians = [statistics.median(column) for column in zip(*times)]
    return *medians, len(count), server.resident_bytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--visitors", type=int, default=16)
    arguments = parser.parse_args()
    server = Server(arguments.program)
    plain = PlainEcho()
    try:
        descriptors = server.descriptors()
        ratios, residents, visits = [], [], 0
        for number in range(arguments.minutes):
            median, plain_median, count, resident = minute(server, plain, arguments.visitors, time.monotonic(), descriptors)
            ratios.append(median / plain_median)
            residents.append(resident)
            visits += count
            print(f"minute {number + 1}: {count} visits, median {median * 1e6:.0f} µs, {ratios[-1]:.2f} of a plain echo's, "
                  f"{resident / 1024:.0f} KiB, {server.cpu_seconds():.0f} s of CPU", flush=True)
        half = len(ratios) // 2
        if half > 0:
            if max(residents[half:]) > max(residents[:half]) + GROWTH_MAX:
                sys.exit(f"memory has grown from {max(residents[:half])} to {max(residents[half:])} bytes")
            before, after = statistics.median(ratios[:half]), statistics.median(ratios[half:])
            if after > before * SLOWER_MAX:
                sys.exit(f"a message took {before:.2f} of what a plain echo takes, and now {after:.2f}")
        server.process.send_signal(signal.SIGTERM)
        if server.process.wait(PATIENCE_SECONDS) != 0:
            sys.exit(f"the server has ended with {server.process.returncode}")
        print(f"{visits} visits in {len(ratios)} minutes: no drift")
    finally:
        plain.process.kill()
        server.process.kill()


if __name__ == "__main__":
    main()
