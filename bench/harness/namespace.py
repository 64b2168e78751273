"""A private network: loopback of its own, without the machine's congestion control and without its traffic."""

import fcntl
import os
import pathlib
import socket
import struct
import subprocess
import sys

MARK = "FERRULE_BENCH_NETWORK"
# For the loopback of the namespace: reno, because bbr paces and so distorts loopback; and local ports for connections that come and go.
SETTINGS = {
    "net/ipv4/tcp_congestion_control": "reno",
    "net/ipv4/ip_local_port_range": "30000 65535",
}
_FLAGS_SET = 0x8914  # SIOCSIFFLAGS
_UP_AND_RUNNING = 0x1 | 0x40  # IFF_UP | IFF_RUNNING


def enter():
    """Runs this program again inside a new network namespace. Returns there, with a list of what is not as it should be."""
    if MARK in os.environ:
        return _set_up() if os.environ[MARK] == "private" else [os.environ[MARK]]
    refusal = "unshare is not installed"
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        try:
            trial = subprocess.run([*command, "true"], capture_output=True, text=True)
        except FileNotFoundError:
            break
        if trial.returncode == 0:
            os.environ[MARK] = "private"
            sys.stdout.flush()
            os.execvp(command[0], [*command, "--", sys.executable, *sys.argv])
        refusal = trial.stderr.strip()
    control = _read("net/ipv4/tcp_congestion_control")
    os.environ[MARK] = f"no private network ({refusal}): this runs on the machine's own loopback, with {control}"
    return enter()


def _set_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _FLAGS_SET, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))
    problems = []
    for name, value in SETTINGS.items():
        try:
            (pathlib.Path("/proc/sys") / name).write_text(value)
        except OSError as error:
            problems.append(f"{name} stays {_read(name)}: {error.strerror}")
    return problems


def _read(name):
    try:
        return (pathlib.Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return "unknown"
