"""The servers under measurement: how each is started, and what it costs."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import bars

START_TIMEOUT_SECONDS = 10
STOP_TIMEOUT_SECONDS = 5
# Niceness of servers and load.
PRIORITY = -15
# The program that runs Ferrule and a raw loop on a kernel that does nothing.
USER_COST = "user_cost"
# Longer than the round trip of the load generator on one connection.
SPIN_MICROSECONDS = 50

_NGINX = """\
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    keepalive_timeout {keepalive};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 0.0.0.0:{port} backlog=4096{deferred};
        location / {{ return 200 "ok"; }}
    }}
}}
"""


class Unavailable(Exception):
    """A server that this machine cannot run; the message says why."""


class Farm:
    """Starts servers on one CPU, each on a port that none has had before: the teardown of a ring is asynchronous and keeps its port."""

    def __init__(self, build, cpu, first_port=20000):
        self._build = pathlib.Path(build)
        self.cpu = cpu
        self._port = first_port
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="ferrule-bench-"))

    def close(self):
        shutil.rmtree(self._folder, ignore_errors=True)

    def next_port(self):
        self._port += 1
        return self._port

    def program(self, name):
        """The path of a program that the build made."""
        places = {bars.FERRULE: "playground/plaintext", bars.FERRULE_SPIN: "playground/plaintext", USER_COST: "tests/cost/user_cost"}
        path = self._build / places.get(name, f"bench/{name}")
        if not os.access(path, os.X_OK):
            raise Unavailable(f"{path} is not built")
        return str(path)

    def command(self, server, port, churn=False, deferred=False):
        """The command line of a server. Raises Unavailable."""
        if server == bars.NGINX:
            return self._nginx(port, churn, deferred)
        if server in (bars.FERRULE, bars.FERRULE_SPIN):
            options = ["--host", "0.0.0.0", "--port", str(port), "--reactors", "1"]
            if deferred:
                options.append("--defer-accept")
            if server == bars.FERRULE_SPIN:
                options += ["--spin", str(SPIN_MICROSECONDS)]
            return [self.program(server), *options]
        options = ["--port", str(port)]
        if server == bars.RAW_URING_SPIN:
            server = bars.RAW_URING
            options.append("--spin")
        if churn:
            options.append("--churn")
        if deferred:
            options.append("--deferred")
        return [self.program(server), *options]

    def _nginx(self, port, churn, deferred):
        path = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if path is None:
            raise Unavailable("nginx is not installed")
        configuration = self._folder / f"nginx-{port}.conf"
        configuration.write_text(
            _NGINX.format(
                user="root" if os.geteuid() == 0 else "nobody",
                folder=self._folder,
                keepalive="0" if churn else "3600s",
                port=port,
                deferred=" deferred" if deferred else "",
            )
        )
        return [path, "-e", "stderr", "-p", str(self._folder), "-c", str(configuration)]

    @contextlib.contextmanager
    def running(self, server, churn=False, deferred=False):
        """(port, process ids) of a server that answers; it is gone when the block ends. Raises Unavailable."""
        port = self.next_port()
        command = self.command(server, port, churn, deferred)
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, preexec_fn=lambda: pin(self.cpu)
            )
            try:
                self._wait_until_serving(server, process, port, output)
                yield port, process_tree(process.pid)
            finally:
                stop(process)

    @staticmethod
    def _wait_until_serving(server, process, port, output):
        """Returns when one request has been answered: only then has a server started all its processes."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_SECONDS) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
                    if client.recv(1):
                        return
            except ConnectionRefusedError:
                time.sleep(0.005)
            except OSError:
                break
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
        state = "runs but does not answer" if process.poll() is None else f"ended with status {process.returncode}"
        raise Unavailable(f"{server} {state}: {said or 'it says nothing'}")


def pin(cpu):
    """Pins the calling process to a CPU, with every descriptor that it may have, and, where it may, before what else wants that CPU.

    A new session has a scheduling group of its own where the kernel groups by session (sched(7), autogroup); there, the niceness of the group
    decides, and that of the process only where it does not.
    """
    os.sched_setaffinity(0, {cpu})
    # A server at its limit of descriptors looks like a slow one.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/autogroup").write_text(str(PRIORITY))


def stop(process):
    """Ends a process and its children, at the latest after STOP_TIMEOUT_SECONDS by force."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def process_tree(process):
    """The process and its descendants."""
    found = [process]
    for tasks in found:
        for children in pathlib.Path(f"/proc/{tasks}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def resident_bytes(processes):
    """Resident memory of processes, exactly: /proc/PID/smaps_rollup walks their pages."""
    total = 0
    for process in processes:
        for line in pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def slab_bytes():
    """Kernel slab memory of the whole machine."""
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) * 1024
    return 0
