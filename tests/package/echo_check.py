#!/usr/bin/env python3
"""echo_check.py <program>: runs the README's example, sends it bytes from two clients, stops it with SIGTERM, and wants status 0."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

SECONDS = 30


def listening_port(process):
    """The port on which the process listens, from the kernel's own tables."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the program ended with status {process.returncode} before it listened")
        sockets = set()
        for descriptor in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
            try:
                sockets.update(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
            except FileNotFoundError:
                continue
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                listens = fields[3] == "0A"
                if listens and fields[9] in sockets:
                    return int(fields[1].split(":")[-1], 16)
        time.sleep(0.01)
    sys.exit("the program does not listen")


def main():
    with subprocess.Popen([sys.argv[1]]) as process:
        try:
            port = listening_port(process)
            clients = [socket.create_connection(("127.0.0.1", port), SECONDS) for _ in range(2)]
            for number, client in enumerate(clients):
                sent = f"client {number}".encode() * 1000
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                received = b""
                while part := client.recv(65536):
                    received += part
                if received != sent:
                    sys.exit(f"client {number} sent {len(sent)} bytes and got {len(received)} back, or others")
            process.send_signal(signal.SIGTERM)
            status = process.wait(SECONDS)
            if status != 0:
                sys.exit(f"after SIGTERM the program ended with status {status}")
        finally:
            process.kill()


main()
