"""The fronts of fronts.py: reverse proxies as they are installed, each one process in a folder of its own, on free addresses, never a service.

A front has doors: addresses with a configuration each, in front of a back of its own. All keep connections to the back and tell it the client's
address in X-Forwarded-For; each door is as transparent, or as lenient, as the front can be made.
"""

import contextlib
import ctypes
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

START_SECONDS = 60
END_SECONDS = 20
START_TRIES = 3
HERE = pathlib.Path(__file__).resolve().parent
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Unavailable(Exception):
    """The program is not installed."""


def free_address():
    """A port of 127.0.0.1 that is free now. A program that finds it taken when it starts is started again with another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()


def find_program(name):
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Unavailable(f"{name} is not installed")
    return found


def start(command, output, **options):
    """A process that ends with this one."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                            preexec_fn=lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM), **options)


def end(process):
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def said_address(command):
    """A program that says `127.0.0.1:<port>` when it listens; the address."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               preexec_fn=lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM))
    try:
        line = process.stdout.readline().decode()
        if "127.0.0.1:" not in line:
            raise RuntimeError(f"{command[0]} does not say where it listens: {line!r}")
        yield ("127.0.0.1", int(line.rpartition(":")[2]))
    finally:
        ended = process.poll()
        end(process)
        process.stdout.close()
        if ended is not None or process.returncode not in (0, -signal.SIGTERM):
            raise RuntimeError(f"{command[0]} has ended {'by itself' if ended is not None else 'badly'}: {process.returncode}")


class Front:
    """A program, and its doors by name."""

    name = ""
    program = ""
    doors = ()

    def configure(self, folder, program, addresses, backs):
        """Writes what the program needs to listen on the addresses for the backs, door by door; the command that runs it."""
        raise NotImplementedError

    @contextlib.contextmanager
    def running(self, backs):
        """The addresses of its doors."""
        program = find_program(self.program)
        for attempt in range(START_TRIES):
            with tempfile.TemporaryDirectory(prefix="ferrule-front-", ignore_cleanup_errors=True) as path:
                folder = pathlib.Path(path)
                # Some give up root's rights when they have them.
                folder.chmod(0o755)
                addresses = [free_address() for _ in self.doors]
                command = self.configure(folder, program, addresses, backs)
                with open(folder / "output", "wb") as output:
                    process = start(command, output, cwd=folder)
                try:
                    if self._accepts(process, addresses):
                        yield addresses
                        return
                finally:
                    end(process)
                said = "\n".join(log.read_text(errors="replace") for log in (folder / "output", folder / "error.log") if log.exists())
        raise RuntimeError(f"{' '.join(map(str, command))} does not run: {said}")

    @staticmethod
    def _accepts(process, addresses):
        until = time.monotonic() + START_SECONDS
        waiting = list(addresses)
        while waiting:
            try:
                socket.create_connection(waiting[0], 1).close()
                waiting.pop(0)
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    return False
                time.sleep(0.02)
        return process.poll() is None


class Nginx(Front):
    name = "nginx"
    program = "nginx"
    doors = ("nginx", "nginx-streaming", "nginx-http-1.0")

    def configure(self, folder, program, addresses, backs):
        upstreams = "".join(f"upstream back{place} {{ server {host}:{port}; keepalive 4; }}\n" for place, (host, port) in enumerate(backs))
        kept = 'proxy_http_version 1.1; proxy_set_header Connection "";'
        styles = (("", kept),
                  ("ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;",
                   kept + "proxy_request_buffering off; proxy_buffering off;"),
                  ("", ""))
        servers = "".join(f"""server {{
    listen {host}:{port}; {style}
    location / {{
        proxy_pass http://back{place}; {proxy_style}
        proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
}}
""" for place, ((host, port), (style, proxy_style)) in enumerate(zip(addresses, styles)))
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root root;\n" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(f"""{user}daemon off; master_process off;
pid {folder}/pid; error_log {folder}/error.log error;
events {{ worker_connections 512; }}
http {{
access_log off; large_client_header_buffers 4 32k;
proxy_next_upstream off;
{temporary}{upstreams}{servers}}}
""")
        return [program, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(folder / "nginx.conf")]


class Haproxy(Front):
    name = "haproxy"
    program = "haproxy"
    doors = ("haproxy", "haproxy-lenient")

    def configure(self, folder, program, addresses, backs):
        text = """global
    maxconn 500
    nbthread 1
    tune.bufsize 32768
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
    retries 0
    option forwardfor
    http-reuse always
"""
        for place, ((host, port), (back_host, back_port), option) in enumerate(
                zip(addresses, backs, ("", "    option accept-invalid-http-request\n    option h1-case-adjust-bogus-client\n"))):
            text += f"frontend front{place}\n    bind {host}:{port}\n{option}    default_backend back{place}\n"
            text += f"backend back{place}\n    server back {back_host}:{back_port} pool-max-conn 4\n"
        (folder / "haproxy.cfg").write_text(text)
        return [program, "-db", "-q", "-f", str(folder / "haproxy.cfg")]


class Apache(Front):
    name = "apache"
    program = "apache2"
    doors = ("apache", "apache-unsafe")

    def configure(self, folder, program, addresses, backs):
        modules = next((pathlib.Path(path) for path in ("/usr/lib/apache2/modules", "/usr/libexec/apache2") if os.path.isdir(path)), None)
        if modules is None:
            raise Unavailable("the modules of apache2 are not installed")
        loaded = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n"
                         for name in ("mpm_event", "authz_core", "env", "proxy", "proxy_http") if (modules / f"mod_{name}.so").exists())
        hosts = ""
        styles = ("HttpProtocolOptions Strict", "HttpProtocolOptions Unsafe LenientMethods Allow0.9\n    SetEnv proxy-sendchunked 1")
        for (host, port), (back_host, back_port), options in zip(addresses, backs, styles):
            hosts += f"""Listen {host}:{port}
<VirtualHost {host}:{port}>
    {options}
    AllowEncodedSlashes NoDecode
    MergeSlashes Off
    ProxyPass "/" "http://{back_host}:{back_port}/" nocanon max=4
</VirtualHost>
"""
        # Not used unless the process is root's; it has to be somebody else's then.
        (folder / "apache.conf").write_text(f"""ServerName front.test
ServerRoot {folder}
PidFile {folder}/pid
ErrorLog {folder}/error.log
DefaultRuntimeDir {folder}
User #65534
Group #65534
{loaded}ThreadsPerChild 40
MaxRequestWorkers 40
ServerLimit 1
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
ProxyPreserveHost On
LimitRequestLine 16384
LimitRequestFieldSize 16384
{hosts}""")
        return [program, "-X", "-d", str(folder), "-f", str(folder / "apache.conf")]


class Varnish(Front):
    name = "varnish"
    program = "varnishd"
    doors = ("varnish",)

    def configure(self, folder, program, addresses, backs):
        find_program("gcc")
        (folder / "front.vcl").write_text(f"""vcl 4.1;
backend back {{ .host = "{backs[0][0]}"; .port = "{backs[0][1]}"; }}
sub vcl_recv {{
    # A tunnel would leave nothing to count.
    if (req.method == "CONNECT") {{ return (synth(405)); }}
    return (pass);
}}
sub vcl_backend_fetch {{ return (fetch); }}
""")
        host, port = addresses[0]
        # Where a request has more than http_max_hdr, Varnish leaves out its own field, which tells that it knows the request.
        settings = ("thread_pool_min=10", "thread_pools=1", "max_retries=0", "http_req_hdr_len=16384", "http_max_hdr=512", "timeout_idle=60")
        return [program, "-F", "-j", "none", "-n", str(folder / "work"), "-a", f"{host}:{port}", "-f", str(folder / "front.vcl"),
                "-s", "malloc,32m", "-T", "none", *itertools.chain.from_iterable(("-p", setting) for setting in settings)]


class H2o(Front):
    name = "h2o"
    program = "h2o"
    doors = ("h2o",)

    def configure(self, folder, program, addresses, backs):
        user = "user: root\n" if os.getuid() == 0 else ""
        (folder / "h2o.conf").write_text(f"""{user}num-threads: 1
pid-file: {folder}/pid
error-log: {folder}/error.log
temp-buffer-path: {folder}
listen:
  host: {addresses[0][0]}
  port: {addresses[0][1]}
hosts:
  default:
    paths:
      "/":
        proxy.reverse.url: "http://{backs[0][0]}:{backs[0][1]}/"
        proxy.preserve-host: ON
        proxy.timeout.keepalive: 60000
        proxy.timeout.io: 60000
""")
        return [program, "-m", "worker", "-c", str(folder / "h2o.conf")]


class Careless(Front):
    """Passes on heads as they came, and takes for a head nearly anything: what a strict back has to stand alone against. It is right about all
    that is valid, so a back that refuses the rest agrees with it."""

    name = "careless"
    program = sys.executable
    # With each, other leniencies: what the one takes for a body, the other takes for a request.
    leniencies = {
        "careless-first": ("bare-lf", "obs-fold", "space-before-colon", "first-length", "loose-length", "length-and-coding", "loose-coding",
                           "chunk-extensions", "chunk-end", "loose-chunk-size", "control-characters", "loose-request-line", "any-host"),
        "careless-last": ("last-length", "length-over-coding", "coding-on-1.0", "unknown-coding", "chunk-extensions", "control-characters",
                          "loose-request-line", "any-host"),
    }
    doors = tuple(leniencies)

    @contextlib.contextmanager
    def running(self, backs):
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(said_address([sys.executable, str(HERE / "front_peers.py"), "front", str(port), *lenient]))
                   for (_, port), lenient in zip(backs, self.leniencies.values())]


FRONTS = {front.name: front for front in (Nginx(), Haproxy(), Apache(), Varnish(), H2o(), Careless())}
