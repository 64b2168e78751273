"""What the rounds come to: bars, tables, and the results that go to disk."""

import json
import math
import statistics

import bars
import intervals

BASES = (bars.RAW_URING, bars.NGINX)


def bases_of(suite):
    """Whom the servers of a suite are compared with: the usual ones where they take part, else whom its bars name, else the first."""
    if not suite.bytes and not suite.path and any(base in suite.servers for base in BASES):
        return BASES
    named = dict.fromkeys(bar.base for bar in bars.BARS if bar.suite == suite.name and bar.base)
    return tuple(named) or suite.servers[:1]


def series(rounds, key):
    """One value a round; None where the round failed or the figure is missing."""
    return [None if cell is None else cell.get(key) for cell in rounds]


def values(rounds, key):
    return [value for value in series(rounds, key) if value is not None]


def judge(bar, result):
    """What the rounds of a suite say about a bar, as a dictionary."""
    rounds = result["servers"]
    subject = rounds.get(bar.server, {"rounds": []})["rounds"]
    if bar.base:
        base = rounds.get(bar.base, {"rounds": []})["rounds"]
        compare = intervals.same_round_differences if bar.difference else intervals.same_round_ratios
        samples = compare(series(subject, bar.metric.key), series(base, bar.metric.key))
    else:
        samples = values(subject, bar.metric.key)
    judged = {
        "suite": bar.suite,
        "metric": bar.metric.key,
        "server": bar.server,
        "base": bar.base,
        "bound": bar.bound,
        "difference": bar.difference,
        "samples": len(samples),
        "median": None,
        "low": None,
        "high": None,
        "verdict": intervals.INCONCLUSIVE,
    }
    if samples:
        median, low, high = intervals.median_interval(samples)
        judged.update(median=median, low=finite(low), high=finite(high), verdict=intervals.verdict(low, high, bar.bound))
    return judged


def finite(value):
    """JSON has no infinity; an unbounded end is null."""
    return value if math.isfinite(value) else None


def judge_all(results):
    """Every bar of the suites that the results hold."""
    return [judge(bar, results["suites"][bar.suite]) for bar in bars.BARS if bar.suite in results["suites"]]


def number(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def median(rounds, key):
    found = values(rounds, key)
    return statistics.median(found) if found else None


def ratio(result, server, base, key):
    """`1.234 [1.200, 1.250]`: the median of same-round ratios and its interval."""
    if server == base:
        return "1"
    servers = result["servers"]
    if base not in servers:
        return "-"
    samples = intervals.same_round_ratios(series(servers[server]["rounds"], key), series(servers[base]["rounds"], key))
    if not samples:
        return "-"
    middle, low, high = intervals.median_interval(samples)
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]" if math.isfinite(low) else f"{middle:.3f}"


def difference(result, server, base, key, digits):
    """`85.9 [84.1, 90.3]`: the median of same-round differences and its interval."""
    servers = result["servers"]
    if server == base:
        return "0"
    if base not in servers:
        return "-"
    samples = intervals.same_round_differences(series(servers[server]["rounds"], key), series(servers[base]["rounds"], key))
    if not samples:
        return "-"
    middle, low, high = intervals.median_interval(samples)
    interval = f" [{number(low, digits)}, {number(high, digits)}]" if math.isfinite(low) else ""
    return number(middle, digits) + interval


def marks(entry):
    """What makes a server's cells doubtful, each with the number of rounds that it befell."""
    counts = {}
    for cell in entry["rounds"]:
        for mark in (cell or {}).get("marks", ()):
            counts[mark] = counts.get(mark, 0) + 1
    total = len(entry["rounds"])
    said = [f"{mark} in {count} of {total}" for mark, count in counts.items()]
    failed = sum(cell is None for cell in entry["rounds"])
    if failed:
        said.append(f"failed in {failed} of {total}: {entry['failure']}")
    return "; ".join(said)


TEXT_COLUMNS = ("server", "suite", "bar", "verdict", "remarks")


def markdown_table(header, rows):
    """Columns aligned in the source, too: the table is read in a terminal first."""
    lines = [header, *rows]
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(header))]
    is_text = [title in TEXT_COLUMNS for title in header]

    def aligned(line):
        cells = (str(cell).ljust(width) if text else str(cell).rjust(width) for cell, width, text in zip(line, widths, is_text))
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (width + 2) if text else "-" * (width + 1) + ":" for width, text in zip(widths, is_text)) + "|"
    return "\n".join([aligned(header), rule, *map(aligned, rows)])


def suite_table(suite, result):
    """The table of one suite."""
    entries = result["servers"]
    if suite.kind == "memory":
        header = ("server", "bytes per connection", "whole process MiB", "kernel bytes per connection, both ends", "remarks")
        keys = (("bytes_per_connection", 0), ("process_mib", 2), ("kernel_bytes_per_connection", 0))
    elif suite.kind == "start":
        header = ("server", "ms to the first answer", "remarks")
        keys = (("start_ms", 2),)
    elif suite.kind in ("coordination", "parse", "making"):
        header = ("server", f"{suite.metric.title}, {suite.metric.unit}", "remarks")
        keys = ((suite.metric.key, suite.metric.digits),)
    elif suite.kind == "user-cost":
        key, digits = suite.metric.key, suite.metric.digits
        header = ("server", "ns/request in user space", f"more than {bars.RAW_LOOP}, ns", "remarks")
        rows = [(server, number(median(entry["rounds"], key), digits), difference(result, server, bars.RAW_LOOP, key, digits), marks(entry))
                for server, entry in entries.items()]
        return markdown_table(header, rows)
    else:
        key = suite.metric.key
        bases = bases_of(suite)
        unit = suite.metric.title.rsplit(" ", 1)[-1]
        header = ("server", f"CPU µs/{unit}", *(f"{suite.metric.title} / {base}" for base in bases),
                  "requests/s" if unit == "request" else f"{unit}/s", "p50 µs", "p99 µs", "p99.9 µs", f"system calls/{unit}", "remarks")
        rows = []
        for server, entry in entries.items():
            rounds = entry["rounds"]
            rows.append((
                server, number(median(rounds, "cpu_us"), 3), *(ratio(result, server, base, key) for base in bases),
                number(median(rounds, "rps"), 0), number(median(rounds, "p50_us"), 1), number(median(rounds, "p99_us"), 1),
                number(median(rounds, "p999_us"), 1), number(entry.get("system_calls"), 3), marks(entry),
            ))
        return markdown_table(header, rows)
    rows = [(server, *(number(median(entry["rounds"], key), digits) for key, digits in keys), marks(entry))
            for server, entry in entries.items()]
    return markdown_table(header, rows)


def bars_table(judged):
    """The table of bars: what was asked, what was measured, the verdict."""
    rows = []
    for bar in judged:
        metric = bars.METRICS[bar["metric"]]
        is_ratio = bar["base"] and not bar["difference"]
        unit, digits = ("", 3) if is_ratio else (f" {metric.unit}", metric.digits)
        metric = next((suite.metric for suite in bars.SUITES if suite.name == bar["suite"] and suite.metric.key == metric.key), metric)
        asked = bars.asked(metric, bar["base"], bar["bound"], bar["difference"], bar["server"])
        interval = "-" if bar["low"] is None else f"[{number(bar['low'], digits)}, {number(bar['high'], digits)}]"
        measured = "-" if bar["median"] is None else number(bar["median"], digits) + unit
        rows.append((bar["suite"], asked, measured, interval, bar["verdict"]))
    return markdown_table(("suite", "bar", "measured", "95 % interval", "verdict"), rows)


def round_length(suite, result):
    """How long each server was measured in a round, where that was for the bench to choose."""
    if suite.kind == "user-cost":
        return f" of {bars.USER_COST_REQUESTS:,} requests"
    if suite.kind == "parse":
        return f" of {bars.PARSE_REQUESTS:,} requests"
    is_chosen = suite.is_load or suite.kind == "making" or (suite.kind == "coordination" and suite.metric != bars.SLEEPER)
    return f" of {result['milliseconds']} ms" if is_chosen else ""


def change_machine(results, machine):
    """From now on it is this machine that measures. The suites that keep their results keep the machine that they are of."""
    if "machine" in results:
        for result in results["suites"].values():
            if results["machine"] != machine:
                result.setdefault("machine", results["machine"])
    results["machine"] = machine


def described(machine):
    return f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}"


def document(results):
    """Every table, as Markdown."""
    machine = results["machine"]
    others = [result["machine"] for result in results["suites"].values() if "machine" in result]
    unless = ", where a suite does not name another machine" if others else ""
    parts = [
        "# Results",
        f"{described(machine)}{unless}. How to read this: README.md in this folder.",
    ]
    if results["bars"]:
        parts += ["## Bars", bars_table(results["bars"])]
    for suite in bars.SUITES:
        result = results["suites"].get(suite.name)
        if result is None:
            continue
        parts.append(f"## {suite.name}: {suite.title}")
        where = f" {described(result['machine'])}." if "machine" in result else ""
        parts.append(f"{result['when']}, commit {result['commit']}, {result['rounds']} rounds{round_length(suite, result)}.{where}")
        parts += result["notes"]
        parts.append(suite_table(suite, result))
        missing = sorted({entry["system_calls_missing"] for entry in result["servers"].values() if entry.get("system_calls_missing")})
        if missing:
            parts.append("No system call counts: " + "; ".join(missing) + ".")
    return "\n\n".join(parts) + "\n"


def load(path):
    """The results on disk, or none yet."""
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {"suites": {}}


def save(path, results):
    path.write_text(json.dumps(results, indent=1) + "\n")
