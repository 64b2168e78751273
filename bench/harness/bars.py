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
# With one of the options of docs/tuning.md each.
FERRULE_SUBMISSION_POLL = "ferrule_submission_poll"
FERRULE_NAPI = "ferrule_napi"
FERRULE_MIN_WAIT = "ferrule_min_wait"
FERRULE_GROWING = "ferrule_growing"
FERRULE_PLACED = "ferrule_placed"
FERRULE_HUGE_PAGES = "ferrule_huge_pages"
# The samples with so many reactors: one on the CPU of the servers, or one there and one on that of the load.
ONE_REACTOR = "one_reactor"
TWO_REACTORS = "two_reactors"
REACTORS = {ONE_REACTOR: 1, TWO_REACTORS: 2}
# A raw loop in the place of a server, where the kernel is one that does nothing.
RAW_LOOP = "raw_loop"
# Parsers of HTTP: Ferrule's own without vectors, and node's.
FERRULE_PORTABLE = "ferrule_portable"
LLHTTP = "llhttp"

# Programs of one pattern each.
FERRULE_COPIED = "ferrule_copied"
FERRULE_BUFFERED = "ferrule_buffered"
FERRULE_STREAMED = "ferrule_streamed"
RAW_ECHO = "raw_echo"
RAW_ECHO_COPIED = "raw_echo_copied"
RAW_SINK = "raw_sink"
RAW_SINK_SHARED = "raw_sink_shared"
RAW_SOURCE = "raw_source"
RAW_PROXY = "raw_proxy"
RAW_EVENTFD = "raw_eventfd"
HAPROXY = "haproxy"
HAPROXY_SPLICE = "haproxy_splice"
# The layer of HTTP: the playground's programs, and one with and without a router.
FERRULE_HTTP = "ferrule_http"
FERRULE_ARENA = "ferrule_arena"
FERRULE_UNROUTED = "ferrule_unrouted"
FERRULE_ROUTED = "ferrule_routed"
BEAST = "beast"
NODE = "node"
GO = "go"

PEERS = (RAW_URING, RAW_EPOLL, NGINX, ASIO_EPOLL, ASIO_URING)
FERRULE_ECHOES = (FERRULE, FERRULE_COPIED, FERRULE_BUFFERED, FERRULE_STREAMED)
ECHOES = (*FERRULE_ECHOES, RAW_ECHO)
# What a program costs that copies what it receives, and copies what it sends.
COPYING_ECHOES = (*ECHOES, RAW_ECHO_COPIED)
SINKS = (FERRULE, RAW_SINK, RAW_SINK_SHARED)
PROXIES = (FERRULE, RAW_PROXY, HAPROXY, HAPROXY_SPLICE)
TUNED = (FERRULE, FERRULE_SUBMISSION_POLL, FERRULE_NAPI, FERRULE_MIN_WAIT, FERRULE_GROWING, FERRULE_PLACED, FERRULE_HUGE_PAGES)
HTTP = (FERRULE_HTTP, FERRULE, NGINX)
JSON = (FERRULE_ARENA, BEAST, NODE, GO)
PROGRAMS = (FERRULE, FERRULE_SPIN, *TUNED[1:], *REACTORS, *COPYING_ECHOES[1:], *PEERS, RAW_URING_SPIN, RAW_LOOP, *SINKS[1:], RAW_SOURCE, RAW_EVENTFD,
            *PROXIES[1:], FERRULE_HTTP, FERRULE_UNROUTED, FERRULE_ROUTED, *JSON, FERRULE_PORTABLE, LLHTTP)


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure of a cell, by its key in the results."""

    key: str
    title: str
    unit: str
    digits: int


CPU = Metric("cpu_us", "server CPU per request", "µs", 3)
CPU_MESSAGE = Metric("cpu_us", "server CPU per message", "µs", 3)
CPU_MIB = Metric("cpu_us", "server CPU per MiB", "µs", 1)
CPU_FILE = Metric("cpu_us", "server CPU per file", "µs", 1)
MEDIAN = Metric("p50_us", "median latency", "µs", 2)
SLOPE = Metric("bytes_per_connection", "resident bytes per idle connection", "B", 0)
PROCESS = Metric("process_mib", "resident memory of the whole process", "MiB", 2)
START = Metric("start_ms", "time from start to first answer", "ms", 2)
USER = Metric("user_ns", "user-space cost per request", "ns", 1)
ROUND_TRIP = Metric("round_trip_us", "round trip to another thread", "µs", 2)
ITEM = Metric("item_ns", "time per item", "ns", 1)
DEADLINE = Metric("deadline_ns", "arming and cancelling a deadline", "ns", 1)
PARSE = Metric("parse_ns", "parsing the head of a request", "ns", 1)
MAKING = Metric("making_us", "making an answer of 25 items", "µs", 2)
ROUTE = Metric("route_ns", "finding a route with two parameters", "ns", 1)
SLEEPER = Metric("bytes_per_sleeper", "resident bytes per sleeping coroutine", "B", 0)
METRICS = {metric.key: metric for metric in (CPU, MEDIAN, SLOPE, PROCESS, START, USER, ROUND_TRIP, ITEM, DEADLINE, SLEEPER, PARSE, MAKING, ROUTE)}


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
    bytes: int = 0
    path: str = ""

    @property
    def is_load(self):
        """Whether servers answer the load generator for a set time: then their system calls can be counted."""
        return self.kind in ("closed", "rate", "churn", "echo", "push", "pull", "relay", "fetch")


# Requests of one run on the kernel that does nothing. So many that what a program does once, before the first, adds less than a nanosecond to each.
USER_COST_REQUESTS = 2_000_000
# Requests of one run of a parser.
PARSE_REQUESTS = 5_000_000
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
    Suite("tuned64", "keep-alive, 64 connections, with an option each", "closed", CPU, servers=TUNED, saturates=True),
    Suite("tuned-pingpong", "ping-pong on one connection, with an option each", "closed", MEDIAN, servers=TUNED, connections=1),
    Suite("scaling64", "keep-alive, 64 connections, by one reactor and by two", "closed", CPU, servers=tuple(REACTORS), saturates=True),
    Suite("scaling-echo64", "echo of 64 bytes, 64 connections, by one reactor and by two", "echo", CPU_MESSAGE, servers=tuple(REACTORS), bytes=64,
          saturates=True),
    Suite("echo64", "echo of 64 bytes, 64 connections", "echo", CPU_MESSAGE, servers=ECHOES, bytes=64, saturates=True),
    Suite("echo16k", "echo of 16 KiB, 64 connections", "echo", CPU_MESSAGE, servers=COPYING_ECHOES, bytes=16 << 10, saturates=True),
    Suite("stream-in", "a stream in, 4 connections", "push", CPU_MIB, servers=SINKS, connections=4, saturates=True),
    Suite("stream-out", "a stream out, 4 connections", "pull", CPU_MIB, servers=(FERRULE, RAW_SOURCE), connections=4, saturates=True),
    Suite("proxy-tcp", "a stream through a proxy, 4 connections", "relay", CPU_MIB, servers=PROXIES, connections=4, saturates=True),
    Suite("file1m", "a file of 1 MiB, 4 connections", "fetch", CPU_FILE, servers=(FERRULE, NGINX), connections=4, bytes=1 << 20, saturates=True),
    Suite("file10m", "a file of 10 MiB, 4 connections", "fetch", CPU_FILE, servers=(FERRULE, NGINX), connections=4, bytes=10 << 20, saturates=True),
    Suite("http", "HTTP layer, 64 connections", "closed", CPU, servers=HTTP, path="/", saturates=True),
    Suite("http-pipelined", "HTTP layer, pipelined 16 deep, 64 connections", "closed", CPU, servers=HTTP, depth=16, path="/", saturates=True),
    Suite("http-routed", "a route with two parameters, 64 connections", "closed", CPU, servers=(FERRULE_ROUTED, FERRULE_UNROUTED),
          path="/users/4711/posts/42", saturates=True),
    Suite("http-routed-pipelined", "a route with two parameters, pipelined 16 deep, 64 connections", "closed", CPU,
          servers=(FERRULE_ROUTED, FERRULE_UNROUTED), depth=16, path="/users/4711/posts/42", saturates=True),
    Suite("arena-json", "25 items as JSON, 64 connections", "closed", CPU, servers=JSON, path="/json/25?m=4", saturates=True),
    Suite("memory", "idle connections", "memory", SLOPE, connections=MEMORY_STEPS[1]),
    Suite("start", "start", "start", START),
    Suite("user-cost64", "user-space cost, 64 connections", "user-cost", USER, servers=(FERRULE, RAW_LOOP)),
    Suite("user-cost512", "user-space cost, 512 connections", "user-cost", USER, servers=(FERRULE, RAW_LOOP), connections=512),
    Suite("user-cost-pipelined", "user-space cost, 64 connections, pipelined 16 deep", "user-cost", USER, servers=(FERRULE, RAW_LOOP), depth=16),
    Suite("http-parse", "the head of a request with four fields", "parse", PARSE, servers=(FERRULE, FERRULE_PORTABLE, LLHTTP)),
    Suite("json-text", "25 items as JSON, in memory", "making", MAKING, servers=(FERRULE,)),
    Suite("json-gzip", "their 4 KiB compressed with gzip, in memory", "making", MAKING, servers=(FERRULE,)),
    Suite("json-br", "their 4 KiB compressed with br, in memory", "making", MAKING, servers=(FERRULE,)),
    Suite("route", "one of nine routes, with two parameters", "making", ROUTE, servers=(FERRULE,)),
    Suite("call-spin", "a call to another reactor and back, both spin", "coordination", ROUND_TRIP, servers=(FERRULE,)),
    Suite("call-sleep", "a call to another reactor and back, both sleep", "coordination", ROUND_TRIP, servers=(FERRULE, RAW_EVENTFD)),
    Suite("channel", "a channel between two reactors, in batches", "coordination", ITEM, servers=(FERRULE,)),
    Suite("channel-inside", "a channel inside a reactor, item by item", "coordination", ITEM, servers=(FERRULE,)),
    Suite("deadlines", "deadlines, 1,000,000 armed", "coordination", DEADLINE, servers=(FERRULE,)),
    Suite("sleepers", "100,000 sleeping coroutines", "coordination", SLEEPER, servers=(FERRULE,)),
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
    # 0.95 linear, as far as the CPU time of a request can tell.
    Bar("scaling64", CPU, ONE_REACTOR, 1 / 0.95, server=TWO_REACTORS),
    Bar("scaling-echo64", CPU_MESSAGE, ONE_REACTOR, 1 / 0.95, server=TWO_REACTORS),
    *(bar
      for suite in ("echo64", "echo16k")
      for bar in (Bar(suite, CPU_MESSAGE, RAW_ECHO, 1.03),
                  Bar(suite, CPU_MESSAGE, FERRULE, 1.03, server=FERRULE_BUFFERED),
                  Bar(suite, CPU_MESSAGE, FERRULE, 1.10, server=FERRULE_STREAMED))),
    Bar("stream-in", CPU_MIB, RAW_SINK, 1.05),
    Bar("stream-out", CPU_MIB, RAW_SOURCE, 1.05),
    Bar("proxy-tcp", CPU_MIB, RAW_PROXY, 1.05),
    Bar("proxy-tcp", CPU_MIB, HAPROXY, 0.8),
    Bar("proxy-tcp", CPU_MIB, HAPROXY_SPLICE, 0.8),
    Bar("file1m", CPU_FILE, NGINX, 1.05),
    Bar("file10m", CPU_FILE, NGINX, 1.05),
    Bar("http", CPU, FERRULE, 1.10, server=FERRULE_HTTP),
    Bar("http", CPU, NGINX, 0.80, server=FERRULE_HTTP),
    Bar("http-pipelined", CPU, NGINX, 0.12, server=FERRULE_HTTP),
    # Microseconds.
    Bar("http-routed", CPU, FERRULE_UNROUTED, 0.150, server=FERRULE_ROUTED, difference=True),
    Bar("http-routed-pipelined", CPU, FERRULE_UNROUTED, 0.150, server=FERRULE_ROUTED, difference=True),
    *(Bar("arena-json", CPU, peer, 0.5, server=FERRULE_ARENA) for peer in (BEAST, NODE, GO)),
    Bar("memory", SLOPE, "", 320),
    Bar("memory", PROCESS, "", 16),
    Bar("start", START, "", 50),
    Bar("user-cost64", USER, RAW_LOOP, 25, difference=True),
    Bar("user-cost512", USER, RAW_LOOP, 25, difference=True),
    Bar("user-cost-pipelined", USER, RAW_LOOP, 6, difference=True),
    Bar("http-parse", PARSE, "", 120),
    Bar("json-text", MAKING, "", 2),
    Bar("route", ROUTE, "", 150),
    Bar("http-parse", PARSE, LLHTTP, 1.0),
    Bar("call-spin", ROUND_TRIP, "", 2),
    Bar("call-sleep", ROUND_TRIP, RAW_EVENTFD, 1.1),
    # 20 million items a second.
    Bar("channel", ITEM, "", 50),
    Bar("channel-inside", ITEM, "", 20),
    Bar("deadlines", DEADLINE, "", 50),
    Bar("sleepers", SLEEPER, "", 400),
)


def asked(metric, base, bound, difference, server=FERRULE):
    """What a bar asks for, in words."""
    of = f" of {server}" if server in (*FERRULE_ECHOES[1:], TWO_REACTORS) else ""
    if difference:
        return f"{metric.title} at most {bound:g} {metric.unit} more than {base}"
    return f"{metric.title}{of} at most {bound:.3g} of {base}" if base else f"{metric.title} at most {bound:g} {metric.unit}"


def suites_named(names):
    """The suites of these names, in the order of the table; `all` or no name is every one. ValueError names what is unknown."""
    known = [suite.name for suite in SUITES]
    unknown = [name for name in names if name != "all" and name not in known]
    if unknown:
        raise ValueError(f"no suite {', '.join(unknown)}; there are: {', '.join(known)}, all")
    if not names or "all" in names:
        return list(SUITES)
    return [suite for suite in SUITES if suite.name in names]
