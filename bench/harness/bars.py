"""What is measured, and the bars that Ferrule has to meet."""

import dataclasses

FERRULE = "ferrule"
RAW_URING = "raw_uring"
RAW_EPOLL = "raw_epoll"
NGINX = "nginx"
ASIO_EPOLL = "asio_epoll"
ASIO_URING = "asio_uring"
FERRULE_SPIN = "ferrule_spin"
RAW_URING_SPIN = "raw_uring_spin"
# A raw loop in the place of a server, where the kernel is one that does nothing.
RAW_LOOP = "raw_loop"

PEERS = (RAW_URING, RAW_EPOLL, NGINX, ASIO_EPOLL, ASIO_URING)
PROGRAMS = (FERRULE, FERRULE_SPIN, *PEERS, RAW_URING_SPIN, RAW_LOOP)


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure of a cell, by its key in the results."""

    key: str
    title: str
    unit: str
    digits: int


CPU = Metric("cpu_us", "server CPU per request", "µs", 3)
MEDIAN = Metric("p50_us", "median latency", "µs", 2)
SLOPE = Metric("bytes_per_connection", "resident bytes per idle connection", "B", 0)
PROCESS = Metric("process_mib", "resident memory of the whole process", "MiB", 2)
START = Metric("start_ms", "time from start to first answer", "ms", 2)
USER = Metric("user_ns", "user-space cost per request", "ns", 1)
METRICS = {metric.key: metric for metric in (CPU, MEDIAN, SLOPE, PROCESS, START, USER)}


@dataclasses.dataclass(frozen=True)
class Suite:
    """One workload. `kind` is a mode of the load generator, or says what is measured without it; `servers` take part in each round, in turn."""

    name: str
    title: str
    kind: str
    metric: Metric
    servers: tuple = (FERRULE, *PEERS)
    connections: int = 64
    depth: int = 1
    rate: int = 0
    saturates: bool = False
    deferred: bool = False

    @property
    def is_load(self):
        """Whether servers answer the load generator for a set time: then their system calls can be counted."""
        return self.kind in ("closed", "rate", "churn")


# Requests of one run on the kernel that does nothing. So many that what a program does once, before the first, adds less than a nanosecond to each.
USER_COST_REQUESTS = 2_000_000
# The two ends of the line whose slope is the memory of a connection.
MEMORY_STEPS = (1000, 10000)

SUITES = (
    Suite("keepalive64", "keep-alive, 64 connections", "closed", CPU, saturates=True),
    Suite("keepalive512", "keep-alive, 512 connections", "closed", CPU, connections=512, saturates=True),
    Suite("rate120k", "120,000 requests/s, 64 connections", "rate", CPU, rate=120000),
    Suite("rate120k-512", "120,000 requests/s, 512 connections", "rate", CPU, connections=512, rate=120000),
    Suite("pipelined", "pipelined 16 deep, 64 connections", "closed", CPU, depth=16, saturates=True),
    Suite("churn", "a connection per request", "churn", CPU, saturates=True),
    Suite("churn-deferred", "a connection per request, deferred accept", "churn", CPU, saturates=True, deferred=True),
    Suite("pingpong", "ping-pong on one connection", "closed", MEDIAN, connections=1),
    Suite("pingpong-spin", "ping-pong on one connection, with the spin budget", "closed", MEDIAN,
          servers=(FERRULE_SPIN, RAW_URING_SPIN, RAW_URING), connections=1),
    Suite("memory", "idle connections", "memory", SLOPE, connections=MEMORY_STEPS[1]),
    Suite("start", "start", "start", START),
    Suite("user-cost64", "user-space cost, 64 connections", "user-cost", USER, servers=(FERRULE, RAW_LOOP)),
    Suite("user-cost512", "user-space cost, 512 connections", "user-cost", USER, servers=(FERRULE, RAW_LOOP), connections=512),
    Suite("user-cost-pipelined", "user-space cost, 64 connections, pipelined 16 deep", "user-cost", USER, servers=(FERRULE, RAW_LOOP), depth=16),
)


@dataclasses.dataclass(frozen=True)
class Bar:
    """`metric` of `server` is at most `bound` times that of `base` in the same round, or at most `bound` where there is no base.

    With `difference`, it exceeds that of `base` in the same round by at most `bound`.
    """

    suite: str
    metric: Metric
    base: str
    bound: float
    server: str = FERRULE
    difference: bool = False


BARS = (
    *(bar
      for suite in ("keepalive64", "keepalive512")
      for bar in (Bar(suite, CPU, RAW_URING, 1.03), Bar(suite, CPU, NGINX, 0.75),
                  Bar(suite, CPU, ASIO_URING, 1.0), Bar(suite, CPU, ASIO_EPOLL, 1.0))),
    Bar("rate120k", CPU, RAW_URING, 1.05),
    Bar("rate120k-512", CPU, RAW_URING, 1.05),
    Bar("pipelined", CPU, RAW_URING, 1.10),
    Bar("pipelined", CPU, NGINX, 0.07),
    *(bar
      for suite in ("churn", "churn-deferred")
      for bar in (Bar(suite, CPU, NGINX, 0.80), Bar(suite, CPU, RAW_URING, 1.05))),
    Bar("pingpong", MEDIAN, RAW_URING, 1.05),
    Bar("pingpong-spin", MEDIAN, RAW_URING, 1 / 3, server=FERRULE_SPIN),
    Bar("memory", SLOPE, "", 320),
    Bar("memory", PROCESS, "", 16),
    Bar("start", START, "", 50),
    Bar("user-cost64", USER, RAW_LOOP, 25, difference=True),
    Bar("user-cost512", USER, RAW_LOOP, 25, difference=True),
    Bar("user-cost-pipelined", USER, RAW_LOOP, 6, difference=True),
)


def asked(metric, base, bound, difference):
    """What a bar asks for, in words."""
    if difference:
        return f"{metric.title} at most {bound:g} {metric.unit} more than {base}"
    return f"{metric.title} at most {bound:.3g} of {base}" if base else f"{metric.title} at most {bound:g} {metric.unit}"


def suites_named(names):
    """The suites of these names, in the order of the table; `all` or no name is every one. ValueError names what is unknown."""
    known = [suite.name for suite in SUITES]
    unknown = [name for name in names if name != "all" and name not in known]
    if unknown:
        raise ValueError(f"no suite {', '.join(unknown)}; there are: {', '.join(known)}, all")
    if not names or "all" in names:
        return list(SUITES)
    return [suite for suite in SUITES if suite.name in names]
