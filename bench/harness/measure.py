"""One cell: one server, one workload, one round."""

import json
import re
import shutil
import subprocess

import bars
import servers

PERF_EVENT = "raw_syscalls:sys_enter"
# perf attaches to a server that is under load already and leaves before the load ends.
PERF_SECONDS = 0.3
PERF_LOAD_MILLISECONDS = 900
PERF_SETTLE_SECONDS = 0.3
# For what should end by itself long before.
PATIENCE_SECONDS = 60
# Addresses that churn spreads its connections over: a port that waits in TIME_WAIT is not used again within a cell.
CHURN_ADDRESSES = 16
# Below this, a server that the load should saturate was waiting for the load generator.
SATURATED_UTILISATION = 0.9
# Above this share of the window spent on a run queue, or of the servers' CPU used by others, the machine was not quiet. Kernel threads that work
# for the server count as others, too; they stay far below.
CONTENDED_SHARE = 0.1
GENERATOR_IDLE_SHARE_MIN = 0.005


class Failed(Exception):
    """A measurement that gave no figure; the message says why."""


class Bench:
    """Measures cells with a farm of servers on one CPU and the load generator on another."""

    def __init__(self, farm, load_cpu, milliseconds, warmup_milliseconds):
        self._farm = farm
        self._load_cpu = load_cpu
        self._milliseconds = milliseconds
        self._warmup_milliseconds = warmup_milliseconds

    def cell(self, suite, server):
        """The figures of one server in one round, as a dictionary. Raises Failed or Unavailable."""
        if suite.kind == "memory":
            return self._memory(suite, server)
        if suite.kind == "start":
            return self._start(server)
        if suite.kind == "user-cost":
            return self._user_cost(suite, server)
        if suite.kind == "parse":
            return self._parse(server)
        if suite.kind == "making":
            return self._making(suite)
        if suite.kind == "coordination":
            return self._coordination(suite, server)
        with self._farm.running(server, suite) as (port, processes):
            line = self._load([*self._arguments(suite, port), "--watch", ",".join(map(str, processes))])
        return figures(suite, line)

    def system_calls(self, suite, server):
        """System calls of a server per request, from the kernel's trace point. Raises Failed or Unavailable."""
        if shutil.which("perf") is None:
            raise Failed("perf is not installed")
        with self._farm.running(server, suite) as (port, processes):
            arguments = self._arguments(suite, port, milliseconds=PERF_LOAD_MILLISECONDS, warmup=self._warmup_milliseconds)
            load = self._start_load(arguments)
            try:
                attach = f"sleep {self._warmup_milliseconds / 1000 + PERF_SETTLE_SECONDS}; " + " ".join(
                    ["exec perf stat -x , -e", PERF_EVENT, "-p", ",".join(map(str, processes)), "-- sleep", str(PERF_SECONDS)]
                )
                perf = subprocess.run(["sh", "-c", attach], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
                output, errors = load.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise Failed(f"{error.cmd[0]} does not end") from error
            finally:
                load.kill()
                load.wait()
        line = parse_load(output, errors, load.returncode)
        return parse_perf(perf.stderr) / (line["rps"] * PERF_SECONDS)

    def _arguments(self, suite, port, milliseconds=None, warmup=None):
        arguments = [suite.kind, "--port", str(port), "--connections", str(suite.connections)]
        arguments += ["--cpu", str(self._farm.cpu), "--ms", str(milliseconds or self._milliseconds), "--warmup", str(warmup or self._warmup_milliseconds)]
        if suite.kind == "churn":
            arguments += ["--spread", str(CHURN_ADDRESSES)]
        elif suite.kind == "rate":
            arguments += ["--rate", str(suite.rate)]
        elif suite.kind == "echo":
            arguments += ["--bytes", str(suite.bytes)]
        elif suite.kind == "relay":
            arguments += ["--backend", str(servers.backend_of(port))]
        elif suite.kind == "closed":
            arguments += ["--depth", str(suite.depth)]
            if suite.path:
                arguments += ["--path", suite.path]
        return arguments

    def _start_load(self, arguments, **options):
        return subprocess.Popen(
            [self._farm.program("load"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: servers.pin(self._load_cpu),
            **options,
        )

    def _load(self, arguments):
        load = self._start_load(arguments, stdin=subprocess.DEVNULL)
        try:
            output, errors = load.communicate(timeout=PATIENCE_SECONDS + self._milliseconds / 1000)
        except subprocess.TimeoutExpired as error:
            raise Failed("the load generator does not end") from error
        finally:
            load.kill()
            load.wait()
        return parse_load(output, errors, load.returncode)

    def _memory(self, suite, server):
        few, many = bars.MEMORY_STEPS
        with self._farm.running(server, suite) as (port, processes):
            load = self._start_load(
                ["hold", "--port", str(port), "--steps", f"{few},{many}"], stdin=subprocess.PIPE
            )
            try:
                resident, slab = [], []
                for step in (few, many):
                    if load.stdout.readline().strip() != f"READY {step}":
                        load.kill()
                        raise Failed(load.stderr.read().strip() or "the load generator ended")
                    resident.append(servers.resident_bytes(processes))
                    slab.append(servers.slab_bytes())
                    if step == few:
                        load.stdin.write("\n")
                        load.stdin.flush()
            finally:
                load.kill()
                load.communicate()
        return {
            "bytes_per_connection": (resident[1] - resident[0]) / (many - few),
            "process_mib": resident[1] / 2**20,
            "kernel_bytes_per_connection": (slab[1] - slab[0]) / (many - few),
        }

    def _start(self, server):
        port = self._farm.next_port()
        command = self._farm.command(server, port)
        line = self._load(["start", "--port", str(port), "--cpu", str(self._farm.cpu), "--", *command])
        return {"start_ms": line["start_us"] / 1000}

    def _user_cost(self, suite, server):
        kind = "raw" if server == bars.RAW_LOOP else "ferrule"
        shape = [str(suite.connections), str(suite.depth), str(bars.USER_COST_REQUESTS)]
        return parse_user_cost(*self._alone([self._farm.program(servers.USER_COST), kind, *shape]))

    def _parse(self, server):
        requests = str(bars.PARSE_REQUESTS)
        if server == bars.LLHTTP:
            command = [self._farm.program(servers.LLHTTP_PARSE), requests]
        else:
            command = [self._farm.program(servers.HTTP_PARSE), "portable" if server == bars.FERRULE_PORTABLE else "vector", requests]
        return parse_user_cost(*self._alone(command), key=bars.PARSE.key)

    def _making(self, suite):
        """A program of one thread that measures itself."""
        command = [self._farm.program(servers.HTTP_MAKING), suite.name, str(self._milliseconds)]
        return parse_coordination(*self._alone(command), suite.metric.key)

    def _coordination(self, suite, server):
        """A program of two threads that measures itself, one of them on the CPU of the servers, the other on that of the load."""
        pattern = [] if server == bars.RAW_EVENTFD else [suite.name]
        name = server if server == bars.RAW_EVENTFD else servers.COORDINATION
        command = [self._farm.program(name), *pattern, str(self._farm.cpu), str(self._load_cpu), str(self._milliseconds)]
        return parse_coordination(*self._alone(command), suite.metric.key)

    def _alone(self, command):
        """What a program that measures itself has printed, its errors and its status."""
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: servers.pin(self._farm.cpu),
        )
        try:
            output, errors = program.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Failed("the program does not end") from error
        finally:
            program.kill()
            program.wait()
        return output, errors, program.returncode


def parse_load(output, errors, status):
    """The load generator's line of JSON. Raises Failed with what it said instead."""
    if status != 0:
        raise Failed(errors.strip() or f"the load generator ended with status {status}")
    try:
        return json.loads(output)
    except json.JSONDecodeError as error:
        raise Failed(f"the load generator printed {output!r}") from error


def parse_user_cost(output, errors, status, key="user_ns"):
    """The figures of a program that says what a request costs it. Raises Failed with what it said instead."""
    if status != 0:
        raise Failed(errors.strip() or f"the program ended with status {status}")
    found = re.fullmatch(r"([\d.]+) ns per request, on the CPU for ([\d.]+) % of the time\n", output)
    if found is None:
        raise Failed(f"the program printed {output!r}")
    wait_share = max(0.0, 1 - float(found[2]) / 100)
    return {key: float(found[1]), "wait_share": wait_share, "marks": ["contended"] if wait_share > CONTENDED_SHARE else []}


def parse_coordination(output, errors, status, key):
    """The figure of a program that measures itself. Raises Failed with what it said instead."""
    if status != 0:
        raise Failed(errors.strip() or f"the program ended with status {status}")
    try:
        line = json.loads(output)
        figure, share = line[key], line["wait_share"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise Failed(f"the program printed {output!r}") from error
    return {key: figure, "wait_share": share, "marks": ["contended"] if share > CONTENDED_SHARE else []}


def parse_perf(text):
    """The count in `perf stat -x ,` output. Raises Failed where perf could not count."""
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[2].startswith(PERF_EVENT):
            if re.fullmatch(r"\d+", fields[0]):
                return int(fields[0])
            raise Failed(f"perf: {fields[0]}")
    raise Failed(f"perf: {text.strip().splitlines()[-1] if text.strip() else 'no output'}")


def figures(suite, line):
    """The figures of a cell from the load generator's line, and under `marks` what makes them doubtful. Raises Failed."""
    if line["timed_out"] or line["requests"] == 0:
        raise Failed("the server stopped answering")
    if line["server_cpu_ns"] == 0:
        raise Failed("the server's CPU time was not found")
    utilisation = line["server_cpu_ns"] / 1e9 / line["seconds"]
    marks = []
    if suite.saturates and utilisation + line["server_wait_share"] < SATURATED_UTILISATION:
        marks.append("generator-bound")
    elif suite.kind == "rate" and line["idle_share"] < GENERATOR_IDLE_SHARE_MIN:
        marks.append("generator-bound")
    foreign_share = max(0.0, line["cpu_busy_share"] - utilisation)
    if max(line["server_wait_share"], line["load_wait_share"], foreign_share) > CONTENDED_SHARE:
        marks.append("contended")
    if line["errors"]:
        marks.append(f"{line['errors']} errors")
    return {
        "cpu_us": line["server_cpu_ns"] / 1000 / line["requests"],
        "rps": line["rps"],
        "p50_us": line["p50_us"],
        "p99_us": line["p99_us"],
        "p999_us": line["p999_us"],
        "utilisation": utilisation,
        "server_wait_share": line["server_wait_share"],
        "load_wait_share": line["load_wait_share"],
        "foreign_share": foreign_share,
        "generator_idle_share": line["idle_share"],
        "answer_bytes": line["answer_bytes"],
        "errors": line["errors"],
        "marks": marks,
    }
