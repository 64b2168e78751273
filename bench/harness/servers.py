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
# The program that parses the heads of requests, and the same with llhttp.
HTTP_PARSE = "http_parse"
LLHTTP_PARSE = "llhttp_parse"
# The program that makes answers without a server.
HTTP_MAKING = "http_making"
# The program that has a pattern for each thing that reactors do together.
COORDINATION = "ferrule_coordination"
# The program that has a pattern for each way of Ferrule to read and write.
PATTERNS = "ferrule_patterns"
ROOT = pathlib.Path(__file__).resolve().parents[2]
_PATTERN_OF = {"echo": "echo", "push": "sink", "pull": "source", "fetch": "files"}
# At which the raw loops cost least by the byte, by trial from 64 KiB to 1 MiB; likewise for haproxy, from 16 KiB, its default.
STREAM_PIECE_BYTES = {"push": 256 << 10, "pull": 1 << 20, "relay": 256 << 10}
HAPROXY_PIECE_BYTES = 256 << 10
# What answers the arena's JSON, and how it is started.
_JSON_SERVERS = {bars.BEAST: ["bench/beast_json"], bars.GO: ["bench/go_json"], bars.NODE: ["node", "bench/peers/json_server.js"]}
_ITEMS = ROOT / "playground/arena-items.json"
_HTTP_PATTERNS = {bars.FERRULE_UNROUTED: "plain", bars.FERRULE_ROUTED: "routed"}
# Raw loops that are others with an option.
_VARIANTS = {bars.RAW_ECHO_COPIED: (bars.RAW_ECHO, "--copied"), bars.RAW_SINK_SHARED: (bars.RAW_SINK, "--shared")}
# For a server that says nothing to start all its processes.
SETTLE_SECONDS = 0.05
# Of each that has one of the options of docs/tuning.md.
TUNING = {
    bars.FERRULE_SUBMISSION_POLL: ["--submission-poll", "100"],
    bars.FERRULE_NAPI: ["--napi-busy-poll", "50"],
    bars.FERRULE_MIN_WAIT: ["--min-wait", "50"],
    bars.FERRULE_GROWING: ["--growing-queues"],
    bars.FERRULE_PLACED: ["--local-memory"],
    bars.FERRULE_HUGE_PAGES: ["--huge-pages"],
}
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
        sendfile on;
        sendfile_max_chunk 0;
        location / {{ {answer} }}
    }}
}}
"""


_HAPROXY = """\
global
  nbthread 1
  maxconn 2000
{tuning}
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
{options}
listen proxy
  bind 127.0.0.1:{port}
  server backend 127.0.0.1:{backend}
"""


def backend_of(port):
    """The port of the service behind a proxy on this one."""
    return port + 20000


class Unavailable(Exception):
    """A server that this machine cannot run; the message says why."""


class Farm:
    """Starts servers on one CPU, each on a port that none has had before: the teardown of a ring is asynchronous and keeps its port.

    One with two reactors has that of the load as well.
    """

    def __init__(self, build, cpu, load_cpu=None, first_port=20000):
        self._build = pathlib.Path(build)
        self.cpu = cpu
        self._load_cpu = cpu if load_cpu is None else load_cpu
        self._port = first_port
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="ferrule-bench-"))

    def close(self):
        shutil.rmtree(self._folder, ignore_errors=True)

    def next_port(self):
        self._port += 1
        return self._port

    def program(self, name):
        """The path of a program that the build made."""
        places = dict.fromkeys((bars.FERRULE, bars.FERRULE_SPIN, *TUNING), "playground/plaintext") | {USER_COST: "tests/cost/user_cost"}
        return self._built(places.get(name, f"bench/{name}"))

    def command(self, server, port, suite=None):
        """The command line of a server, for a suite. Raises Unavailable."""
        kind = suite.kind if suite else ""
        churn = kind == "churn"
        deferred = suite is not None and suite.deferred
        if server == bars.NGINX:
            return self._nginx(port, churn, deferred, self._file(suite.bytes) if kind == "fetch" else None)
        if server in (bars.HAPROXY, bars.HAPROXY_SPLICE):
            return self._haproxy(port, splice=server == bars.HAPROXY_SPLICE)
        if server in bars.REACTORS:
            sample = self._built("playground/echo" if kind == "echo" else "playground/plaintext")
            return [sample, "--host", "0.0.0.0", "--port", str(port), "--reactors", str(bars.REACTORS[server])]
        if server == bars.FERRULE and kind == "relay":
            return [self._built("playground/proxy-tcp"), "--host", "127.0.0.1", "--port", str(port), "--reactors", "1",
                    "--to", f"127.0.0.1:{backend_of(port)}", "--quiet"]
        if server in _JSON_SERVERS:
            return [*self._json_server(server), "--port", str(port), "--dataset", str(_ITEMS)]
        if server in (bars.FERRULE_HTTP, bars.FERRULE_ARENA):
            items = ["--dataset", str(_ITEMS)] if server == bars.FERRULE_ARENA else []
            name = server.removeprefix("ferrule_")
            return [self._built(f"playground/{name}"), "--host", "127.0.0.1", "--port", str(port), "--reactors", "1", *items]
        if server in _HTTP_PATTERNS:
            return [self._built("bench/ferrule_http_patterns"), "--port", str(port), "--pattern", _HTTP_PATTERNS[server]]
        if kind in _PATTERN_OF and (server == bars.FERRULE or server in bars.FERRULE_ECHOES[1:]):
            pattern = _PATTERN_OF[kind] + server.removeprefix(bars.FERRULE).replace("_", "-")
            file = ["--file", str(self._file(suite.bytes))] if kind == "fetch" else []
            return [self._built(f"bench/{PATTERNS}"), "--port", str(port), "--pattern", pattern, *file]
        if kind in ("echo", "push", "pull", "relay"):
            # Of a message, or of a piece of the stream: the size at which the loop costs least.
            options = ["--bytes", str(suite.bytes or STREAM_PIECE_BYTES[kind])]
            if kind == "relay":
                options += ["--to", str(backend_of(port))]
            server, *variant = _VARIANTS.get(server, (server,))
            return [self.program(server), "--port", str(port), *options, *variant]
        if server in (bars.FERRULE, bars.FERRULE_SPIN, *TUNING):
            options = ["--host", "0.0.0.0", "--port", str(port), "--reactors", "1"]
            if deferred:
                options.append("--defer-accept")
            if server == bars.FERRULE_SPIN:
                options += ["--spin", str(SPIN_MICROSECONDS)]
            return [self.program(server), *options, *TUNING.get(server, [])]
        options = ["--port", str(port)]
        if server == bars.RAW_URING_SPIN:
            server = bars.RAW_URING
            options.append("--spin")
        if churn:
            options.append("--churn")
        if deferred:
            options.append("--deferred")
        return [self.program(server), *options]

    def _json_server(self, server):
        *interpreter, program = _JSON_SERVERS[server]
        if not interpreter:
            return [self._built(program)]
        path = shutil.which(interpreter[0])
        if path is None:
            raise Unavailable(f"{interpreter[0]} is not installed")
        return [path, str(ROOT / program)]

    def _built(self, place):
        path = self._build / place
        if not os.access(path, os.X_OK):
            raise Unavailable(f"{path} is not built")
        return str(path)

    def _file(self, size):
        """A file of so many bytes, in the page cache."""
        path = self._folder / f"file-{size}"
        if not path.exists():
            path.write_bytes(bytes(index * 131 >> 7 & 255 for index in range(4096)) * (size // 4096))
        path.read_bytes()
        return path

    def _haproxy(self, port, splice):
        path = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if path is None:
            raise Unavailable("haproxy is not installed")
        configuration = self._folder / f"haproxy-{port}.cfg"
        tuning = f"  tune.bufsize {HAPROXY_PIECE_BYTES}\n  tune.pipesize {HAPROXY_PIECE_BYTES}\n  maxpipes 1000" if splice else ""
        configuration.write_text(_HAPROXY.format(port=port, backend=backend_of(port), tuning=tuning,
                                                 options="  option splice-request\n  option splice-response" if splice else ""))
        return [path, "-db", "-f", str(configuration)]

    def _nginx(self, port, churn, deferred, file=None):
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
                answer=f"root {file.parent}; rewrite ^ /{file.name} break;" if file else 'return 200 "ok";',
            )
        )
        return [path, "-e", "stderr", "-p", str(self._folder), "-c", str(configuration)]

    @contextlib.contextmanager
    def running(self, server, suite):
        """(port, process ids) of a server that serves the suite; it is gone when the block ends. Raises Unavailable."""
        port = self.next_port()
        command = self.command(server, port, suite)
        cpus = {self.cpu, self._load_cpu} if bars.REACTORS.get(server, 1) > 1 else {self.cpu}
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, preexec_fn=lambda: pin(*cpus)
            )
            try:
                self._wait_until_serving(server, process, port, output, answers=suite.kind not in ("push", "relay"))
                yield port, process_tree(process.pid)
            finally:
                stop(process)

    @staticmethod
    def _wait_until_serving(server, process, port, output, answers):
        """Returns when one request has been answered: only then has a server started all its processes. Who does not answer is connected to."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_SECONDS) as client:
                    if not answers:
                        time.sleep(SETTLE_SECONDS)
                        return
                    client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
                    if client.recv(1):
                        return
            except ConnectionRefusedError:
                time.sleep(0.005)
            except ConnectionResetError:
                # It has accepted, and there is nothing yet to lead to.
                if not answers:
                    return
                break
            except OSError:
                break
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
        state = "runs but does not answer" if process.poll() is None else f"ended with status {process.returncode}"
        raise Unavailable(f"{server} {state}: {said or 'it says nothing'}")


def pin(*cpus):
    """Pins the calling process to CPUs, with every descriptor that it may have, and, where it may, before what else wants them.

    A new session has a scheduling group of its own where the kernel groups by session (sched(7), autogroup); there, the niceness of the group
    decides, and that of the process only where it does not.
    """
    os.sched_setaffinity(0, cpus)
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
