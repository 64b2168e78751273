"""Command line of the benchmark runner."""

import argparse
import datetime
import os
import pathlib
import platform
import subprocess
import sys
import time

import bars
import intervals
import measure
import namespace
import plot
import report
import servers

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROUNDS_MIN = 15


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="Measures Ferrule against its peers: interleaved rounds in a private network, server and load on a CPU each. "
        "Writes results.json, results.md and results.svg. Suites not named keep their results.",
        epilog="suites: " + ", ".join(suite.name for suite in bars.SUITES) + ", all",
    )
    parser.add_argument("suites", nargs="*", metavar="suite", help="what to measure; default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS_MIN, help=f"rounds of each suite (default {ROUNDS_MIN}; with fewer than "
                        f"{intervals.SAMPLES_MIN}, every bar stays inconclusive)")
    parser.add_argument("--ms", type=int, default=700, help="milliseconds that each server is measured in a round (default 700)")
    parser.add_argument("--warmup", type=int, default=200, help="milliseconds of load before them (default 200)")
    parser.add_argument("--servers", default="", help="comma-separated: only these take part")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release", help="build folder (default build/release)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/performance", help="where results go (default docs/performance)")
    parser.add_argument("--server-cpu", type=int, help="CPU of the servers (default: the first that may be used)")
    parser.add_argument("--load-cpu", type=int, help="CPU of the load generator (default: the last that may be used)")
    parser.add_argument("--one-cpu", action="store_true", help="measure although server and load share a CPU; the results say so")
    parser.add_argument("--no-perf", action="store_true", help="do not count system calls")
    parser.add_argument("--list", action="store_true", help="print the suites and their bars, and end")
    options = parser.parse_args(arguments)
    try:
        options.suites = bars.suites_named(options.suites)
    except ValueError as error:
        parser.error(str(error))
    if options.rounds < 1 or options.ms < 1 or options.warmup < 1:
        parser.error("--rounds, --ms and --warmup are at least 1")
    options.servers = [name for name in options.servers.split(",") if name]
    unknown = set(options.servers) - set(bars.PROGRAMS)
    if unknown:
        parser.error(f"no server {', '.join(sorted(unknown))}")
    return options


def choose_cpus(options):
    """(server CPU, load CPU, notes). Ends the program where there is one CPU only and --one-cpu is not given."""
    allowed = sorted(os.sched_getaffinity(0))
    server = allowed[0] if options.server_cpu is None else options.server_cpu
    load = allowed[-1] if options.load_cpu is None else options.load_cpu
    if server != load:
        return server, load, []
    if not options.one_cpu:
        sys.exit("bench/run: server and load need a CPU each and there is one; --one-cpu measures all the same")
    return server, load, [f"Server and load shared CPU {server}: these figures say little."]


def describe_machine():
    model = platform.machine()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release()}


def commit():
    described = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return described.stdout.strip() or "unknown"


class Progress:
    """One line on the terminal that is written over; nothing where the output is not one."""

    def __init__(self):
        self._shown = sys.stderr.isatty()

    def show(self, line):
        if self._shown:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def clear(self):
        self.show("")


def run_suite(suite, bench, options, notes, progress):
    """Every round of one suite: all servers in each round, the first one another in each."""
    names = [name for name in suite.servers if not options.servers or name in options.servers]
    entries = {name: {"rounds": [], "failure": ""} for name in names}
    unavailable = set()
    began = time.monotonic()
    for round_index in range(options.rounds):
        first = round_index % max(1, len(names))
        cells = dict.fromkeys(names)
        for name in names[first:] + names[:first]:
            if name in unavailable:
                continue
            progress.show(f"{suite.name}: round {round_index + 1} of {options.rounds}, {name}, {time.monotonic() - began:.0f} s")
            try:
                cells[name] = bench.cell(suite, name)
            except servers.Unavailable as error:
                entries[name]["failure"] = str(error)
                unavailable.add(name)
            except measure.Failed as error:
                entries[name]["failure"] = str(error)
        for name, cell in cells.items():
            entries[name]["rounds"].append(cell)
    if suite.is_load:
        for name in names:
            if name in unavailable:
                continue
            progress.show(f"{suite.name}: system calls, {name}")
            try:
                if options.no_perf:
                    raise measure.Failed("not asked for")
                entries[name]["system_calls"] = bench.system_calls(suite, name)
            except (measure.Failed, servers.Unavailable) as error:
                entries[name]["system_calls_missing"] = str(error)
    progress.clear()
    return {
        "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "rounds": options.rounds,
        "milliseconds": options.ms,
        "notes": notes,
        "servers": entries,
    }


def main(arguments):
    options = parse(arguments)
    if options.list:
        for suite in options.suites:
            print(f"{suite.name}: {suite.title}")
            for bar in bars.BARS:
                if bar.suite == suite.name:
                    print(f"    {bar.server}: {bars.asked(bar.metric, bar.base, bar.bound, bar.difference, bar.server)}")
        return 0
    problems = namespace.enter()
    server_cpu, load_cpu, notes = choose_cpus(options)
    notes += [f"Note: {problem}." for problem in problems]
    for note in notes:
        print(note, file=sys.stderr)

    options.output.mkdir(parents=True, exist_ok=True)
    results = report.load(options.output / "results.json")
    report.change_machine(results, {**describe_machine(), "server_cpu": server_cpu, "load_cpu": load_cpu})
    progress = Progress()
    farm = servers.Farm(options.build, server_cpu, load_cpu)
    bench = measure.Bench(farm, load_cpu, options.ms, options.warmup)
    try:
        for suite in options.suites:
            result = run_suite(suite, bench, options, notes, progress)
            results["suites"][suite.name] = result
            results["bars"] = report.judge_all(results)
            print(f"\n{suite.name}: {suite.title}\n{report.suite_table(suite, result)}", flush=True)
            report.save(options.output / "results.json", results)
            (options.output / "results.md").write_text(report.document(results))
            (options.output / "results.svg").write_text(plot.svg(results))
    except KeyboardInterrupt:
        print("interrupted: the suites that were complete are saved", file=sys.stderr)
        return 130
    finally:
        farm.close()
    measured = {suite.name for suite in options.suites}
    print(f"\n{report.bars_table([bar for bar in results['bars'] if bar['suite'] in measured])}")
    print(f"\nwritten: {options.output}/results.json, results.md, results.svg")
    return 0
