#!/usr/bin/env python3
"""tools/gdb/ferrule.py against a running program of the playground, and against its core. Exit 77: skipped, with the reason."""

import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

TIMEOUT_SECONDS = 60
CONNECTIONS = 3
COMMANDS = ("ferrule reactors", "ferrule tasks", "ferrule connections")


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def gdb(script, *arguments, commands):
    command = ["gdb", "-nx", "-batch", *arguments, "-x", str(script)]
    for text in commands:
        command += ["-ex", text]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    return done.stdout, done.stderr


def check(what, output, errors):
    """The three answers, one after the other in the output."""
    reactors = [line for line in output.splitlines() if re.match(r"reactor \d+: thread", line)]
    tasks = re.findall(r"^reactor \d+: (\d+) tasks", output, re.MULTILINE)
    connections = re.findall(r"^reactor \d+: (\d+) connections$", output, re.MULTILINE)
    failures = []

    def expect(holds, text):
        if not holds:
            failures.append(text)

    # Two that serve, and the server's own.
    expect(len(reactors) >= 3, f"{len(reactors)} reactors")
    expect("operation 'wait for signals': waiting, for ferrule::Server::Engine::watch_signals()" in output, "the wait for signals")
    expect(sum(map(int, connections)) == CONNECTIONS, f"{connections} connections")
    expect(sum(map(int, tasks)) > CONNECTIONS, f"{tasks} tasks")
    expect(len(re.findall(r"^  \(anonymous namespace\)::echo\(ferrule::Connection\).*\n    waits for a read of connection \d+ \(descriptor \d+\)$",
                          output, re.MULTILINE)) == CONNECTIONS, "the tasks that wait for a read")
    expect(len(re.findall(r"^  connection \d+ \(descriptor \d+\), open, read by \(anonymous namespace\)::echo\(ferrule::Connection\)$",
                          output, re.MULTILINE)) == CONNECTIONS, "the connections that are read")
    for failure in failures:
        print(f"{what}: not as expected: {failure}")
    if failures:
        print(output, errors)
    return not failures


def main():
    program, script = sys.argv[1:3]
    with_core = "--core" in sys.argv
    if shutil.which("gdb") is None:
        skip("gdb is not installed")
    output, errors = gdb(script, commands=["ferrule reactors"])
    if "Undefined command" in errors or "Python scripting is not supported" in errors:
        skip("this gdb has no Python")
    if "there is no process" not in errors and "no symbols of Ferrule" not in errors:
        print("without a process it should say so:", output, errors)
        return 1
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
        [program, "--host", "127.0.0.1", "--port", "0", "--reactors", "2"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            port = int(re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())[1])
            clients = [socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) for _ in range(CONNECTIONS)]
            for client in clients:
                client.sendall(b"x")
                if client.recv(1) != b"x":
                    raise RuntimeError("no echo")
            # What was answered may not be waited for again yet.
            until = time.monotonic() + TIMEOUT_SECONDS
            while True:
                output, errors = gdb(script, "-p", str(process.pid), commands=COMMANDS)
                if "Operation not permitted" in errors or "ptrace" in errors:
                    skip("this process may not trace another: " + errors.strip().splitlines()[0])
                if output.count("waits for a read") == CONNECTIONS or time.monotonic() > until:
                    break
            right = check("attached", output, errors)
            if with_core:
                core = pathlib.Path(folder) / "core"
                _, errors = gdb(script, "-p", str(process.pid), commands=[f"generate-core-file {core}"])
                if not core.exists():
                    print("no core:", errors)
                    return 1
                output, errors = gdb(script, program, str(core), commands=COMMANDS)
                right = check("core", output, errors) and right
            for client in clients:
                client.close()
        finally:
            process.terminate()
            process.wait(TIMEOUT_SECONDS)
    if process.returncode != 0:
        print(f"the program ended with {process.returncode}")
    return 0 if right and process.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
