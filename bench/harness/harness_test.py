"""Tests of what the bench concludes from its measurements: `python3 -m unittest discover bench/harness -p '*_test.py'`."""

import io
import json
import math
import os
import pathlib
import random
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from contextlib import redirect_stderr

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import bars
import intervals
import main
import measure
import plot
import report
import servers


class Intervals(unittest.TestCase):
    def test_fifteen_samples_give_the_fourth_and_the_twelfth(self):
        # Ranks 4 and 12 of 15 enclose the median with 96.5 %, ranks 5 and 11 with 88.2 % only.
        self.assertEqual(intervals.median_interval(range(1, 16)), (8, 4, 12))

    def test_six_samples_are_the_fewest_with_an_interval(self):
        self.assertEqual(intervals.median_interval([6, 1, 5, 2, 4, 3]), (3.5, 1, 6))
        self.assertEqual(intervals.median_interval([1, 2, 3, 4, 5]), (3, -math.inf, math.inf))
        self.assertEqual(intervals.SAMPLES_MIN, 6)

    def test_one_sample_is_its_own_median(self):
        self.assertEqual(intervals.median_interval([7]), (7, -math.inf, math.inf))

    def test_an_outlier_moves_nothing(self):
        samples = [1.0] * 14 + [1000.0]
        self.assertEqual(intervals.median_interval(samples), (1.0, 1.0, 1.0))

    def test_the_interval_covers_the_true_median_as_often_as_it_says(self):
        generator = random.Random(1)
        trials = 2000
        covered = 0
        for _ in range(trials):
            _, low, high = intervals.median_interval([generator.expovariate(1.0) for _ in range(15)])
            covered += low <= math.log(2) <= high
        self.assertGreater(covered / trials, 0.95)

    def test_verdicts(self):
        self.assertEqual(intervals.verdict(0.9, 1.0, 1.0), intervals.MET)
        self.assertEqual(intervals.verdict(1.01, 1.1, 1.0), intervals.MISSED)
        self.assertEqual(intervals.verdict(0.9, 1.1, 1.0), intervals.INCONCLUSIVE)
        self.assertEqual(intervals.verdict(-math.inf, math.inf, 1.0), intervals.INCONCLUSIVE)

    def test_ratios_pair_rounds_and_leave_out_failed_ones(self):
        self.assertEqual(intervals.same_round_ratios([1.0, None, 3.0, 4.0], [2.0, 2.0, None, 2.0]), [0.5, 2.0])

    def test_differences_pair_rounds_and_leave_out_failed_ones(self):
        self.assertEqual(intervals.same_round_differences([1.0, None, 3.0, 4.0], [2.0, 2.0, None, 0.0]), [-1.0, 4.0])


def load_line(**changes):
    line = {
        "mode": "closed", "requests": 300000, "seconds": 1.0, "rps": 300000.0, "p50_us": 200.0, "p99_us": 300.0, "p999_us": 400.0,
        "errors": 0, "bytes": 12000000, "answer_bytes": 40, "timed_out": False, "idle_passes": 0.5, "idle_share": 0.1,
        "server_cpu_ns": 960_000_000, "server_wait_share": 0.0, "load_wait_share": 0.0,
        "cpu_busy_share": 0.97,
    }
    line.update(changes)
    return line


def suite_of(name):
    return next(suite for suite in bars.SUITES if suite.name == name)


SATURATING = next(suite for suite in bars.SUITES if suite.name == "keepalive64")
BY_RATE = next(suite for suite in bars.SUITES if suite.name == "rate120k")


class Cells(unittest.TestCase):
    def test_cpu_per_request(self):
        cell = measure.figures(SATURATING, load_line())
        self.assertAlmostEqual(cell["cpu_us"], 3.2)
        self.assertEqual(cell["marks"], [])

    def test_a_server_that_waits_for_load_marks_the_generator(self):
        self.assertEqual(measure.figures(SATURATING, load_line(server_cpu_ns=800_000_000, cpu_busy_share=0.8))["marks"], ["generator-bound"])

    def test_a_server_that_waits_for_its_cpu_does_not(self):
        marks = measure.figures(SATURATING, load_line(server_cpu_ns=800_000_000, server_wait_share=0.15))["marks"]
        self.assertEqual(marks, ["contended"])

    def test_a_cpu_that_others_use_is_marked(self):
        self.assertEqual(measure.figures(BY_RATE, load_line(server_cpu_ns=400_000_000, cpu_busy_share=0.45))["marks"], [])
        self.assertEqual(measure.figures(BY_RATE, load_line(server_cpu_ns=400_000_000, cpu_busy_share=0.55))["marks"], ["contended"])

    def test_a_fixed_rate_need_not_saturate(self):
        self.assertEqual(measure.figures(BY_RATE, load_line(server_cpu_ns=400_000_000, cpu_busy_share=0.4))["marks"], [])
        self.assertEqual(measure.figures(BY_RATE, load_line(idle_share=0.0))["marks"], ["generator-bound"])

    def test_errors_are_marked(self):
        self.assertEqual(measure.figures(SATURATING, load_line(errors=3))["marks"], ["3 errors"])

    def test_a_server_that_stops_answering_fails(self):
        for change in ({"timed_out": True}, {"requests": 0}):
            with self.assertRaisesRegex(measure.Failed, "stopped answering"):
                measure.figures(SATURATING, load_line(**change))

    def test_a_server_without_cpu_time_fails(self):
        with self.assertRaisesRegex(measure.Failed, "CPU time"):
            measure.figures(SATURATING, load_line(server_cpu_ns=0))

    def test_what_the_generator_says_is_the_failure(self):
        with self.assertRaisesRegex(measure.Failed, "refused"):
            measure.parse_load("", "load: connection 0: refused\n", 1)
        with self.assertRaisesRegex(measure.Failed, "status -9"):
            measure.parse_load("", "", -9)
        with self.assertRaisesRegex(measure.Failed, "printed"):
            measure.parse_load("nonsense", "", 0)
        self.assertEqual(measure.parse_load(json.dumps(load_line()), "", 0), load_line())

    def test_user_cost_output(self):
        line = "55.91 ns per request, on the CPU for 99.2 % of the time\n"
        cell = measure.parse_user_cost(line, "", 0)
        self.assertEqual((cell["user_ns"], cell["marks"]), (55.91, []))
        self.assertEqual(measure.parse_user_cost(line.replace("99.2", "54.0"), "", 0)["marks"], ["contended"])
        self.assertEqual(measure.parse_user_cost(line.replace("99.2", "100.1"), "", 0)["wait_share"], 0)
        with self.assertRaisesRegex(measure.Failed, "broken"):
            measure.parse_user_cost("", "broken\n", 134)
        with self.assertRaisesRegex(measure.Failed, "status -6"):
            measure.parse_user_cost("", "", -6)
        with self.assertRaisesRegex(measure.Failed, "printed 'nonsense'"):
            measure.parse_user_cost("nonsense", "", 0)

    def test_user_cost_runs_the_program_of_the_build_in_the_shape_of_the_suite(self):
        suite = next(suite for suite in bars.SUITES if suite.name == "user-cost-pipelined")
        with tempfile.TemporaryDirectory() as folder:
            farm = servers.Farm(folder, min(os.sched_getaffinity(0)))
            self.addCleanup(farm.close)
            bench = measure.Bench(farm, farm.cpu, 1, 1)
            with self.assertRaisesRegex(servers.Unavailable, "tests/cost/user_cost is not built"):
                bench.cell(suite, bars.FERRULE)
            program = pathlib.Path(folder) / "tests/cost/user_cost"
            program.parent.mkdir(parents=True)
            program.write_text(f'#!/bin/sh\necho "$*" >>{folder}/calls\necho "7.5 ns per request, on the CPU for 100.0 % of the time"\n')
            program.chmod(0o755)
            self.assertEqual(bench.cell(suite, bars.FERRULE)["user_ns"], 7.5)
            bench.cell(suite, bars.RAW_LOOP)
            self.assertEqual((pathlib.Path(folder) / "calls").read_text(), "ferrule 64 16 2000000\nraw 64 16 2000000\n")

    def test_parsing_runs_each_parser(self):
        suite = next(suite for suite in bars.SUITES if suite.name == "http-parse")
        with tempfile.TemporaryDirectory() as folder:
            farm = servers.Farm(folder, min(os.sched_getaffinity(0)))
            self.addCleanup(farm.close)
            bench = measure.Bench(farm, farm.cpu, 1, 1)
            with self.assertRaisesRegex(servers.Unavailable, "bench/llhttp_parse is not built"):
                bench.cell(suite, bars.LLHTTP)
            (pathlib.Path(folder) / "bench").mkdir()
            for name in ("http_parse", "llhttp_parse"):
                program = pathlib.Path(folder) / "bench" / name
                program.write_text(f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\necho "97.5 ns per request, on the CPU for 100.0 % of the time"\n')
                program.chmod(0o755)
            self.assertEqual([bench.cell(suite, server)["parse_ns"] for server in suite.servers], [97.5] * 3)
            calls = (pathlib.Path(folder) / "calls").read_text()
            self.assertEqual(calls, "http_parse vector 5000000\nhttp_parse portable 5000000\nllhttp_parse 5000000\n")

    def test_perf_output(self):
        self.assertEqual(measure.parse_perf("1234,,raw_syscalls:sys_enter,300000000,100.00,,\n"), 1234)
        with self.assertRaisesRegex(measure.Failed, "not counted"):
            measure.parse_perf("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n")
        with self.assertRaisesRegex(measure.Failed, "No permission"):
            measure.parse_perf("Error:\nNo permission\n")
        with self.assertRaisesRegex(measure.Failed, "no output"):
            measure.parse_perf("")


def result_of(**cpu_by_server):
    return {
        "when": "2026-01-01 00:00 UTC", "commit": "abc", "rounds": 15, "milliseconds": 700, "notes": [],
        "servers": {
            name: {"rounds": [None if value is None else {"cpu_us": value, "rps": 1.0, "p50_us": 1.0, "p99_us": 1.0, "p999_us": 1.0, "marks": []}
                              for value in series], "failure": "it fell over" if None in series else ""}
            for name, series in cpu_by_server.items()
        },
    }


def user_cost_of(**nanoseconds_by_program):
    result = result_of(**nanoseconds_by_program)
    for entry in result["servers"].values():
        entry["rounds"] = [cell and {"user_ns": cell["cpu_us"], "marks": []} for cell in entry["rounds"]]
    return result


class Bars(unittest.TestCase):
    BAR = bars.Bar("keepalive64", bars.CPU, bars.RAW_URING, 1.03)

    def test_a_clear_win_is_met(self):
        judged = report.judge(self.BAR, result_of(ferrule=[3.0] * 15, raw_uring=[3.0] * 15))
        self.assertEqual((judged["verdict"], judged["median"], judged["samples"]), (intervals.MET, 1.0, 15))

    def test_a_clear_loss_is_missed(self):
        self.assertEqual(report.judge(self.BAR, result_of(ferrule=[3.3] * 15, raw_uring=[3.0] * 15))["verdict"], intervals.MISSED)

    def test_a_spread_around_the_bound_is_inconclusive(self):
        ferrule = [2.7, 3.6] * 7 + [3.09]
        self.assertEqual(report.judge(self.BAR, result_of(ferrule=ferrule, raw_uring=[3.0] * 15))["verdict"], intervals.INCONCLUSIVE)

    def test_drift_of_the_machine_cancels_within_a_round(self):
        drift = [1.0 + index / 10 for index in range(15)]
        judged = report.judge(self.BAR, result_of(ferrule=[3.0 * factor for factor in drift], raw_uring=[3.0 * factor for factor in drift]))
        self.assertEqual(judged["verdict"], intervals.MET)

    def test_a_missing_server_is_inconclusive(self):
        judged = report.judge(self.BAR, result_of(ferrule=[None] * 15, raw_uring=[3.0] * 15))
        self.assertEqual((judged["verdict"], judged["median"]), (intervals.INCONCLUSIVE, None))
        self.assertEqual(report.judge(self.BAR, result_of(raw_uring=[3.0] * 15))["verdict"], intervals.INCONCLUSIVE)

    def test_a_bar_without_base_is_absolute(self):
        bar = bars.Bar("keepalive64", bars.CPU, "", 5)
        self.assertEqual(report.judge(bar, result_of(ferrule=[3.0] * 15))["verdict"], intervals.MET)

    def test_a_difference_is_of_the_same_round(self):
        bar = next(bar for bar in bars.BARS if bar.suite == "user-cost64")
        drift = [60.0 + index * 5 for index in range(15)]
        judged = report.judge(bar, user_cost_of(ferrule=[raw + 20 for raw in drift], raw_loop=drift))
        self.assertEqual((judged["verdict"], judged["median"], judged["samples"]), (intervals.MET, 20, 15))
        judged = report.judge(bar, user_cost_of(ferrule=[raw + 26 for raw in drift], raw_loop=drift))
        self.assertEqual(judged["verdict"], intervals.MISSED)
        judged = report.judge(bar, user_cost_of(ferrule=[85.0 + index % 3 - 1 for index in range(15)], raw_loop=[60.0] * 15))
        self.assertEqual(judged["verdict"], intervals.INCONCLUSIVE)

    def test_bars_in_words(self):
        words = {(bar.suite, bar.base): bars.asked(bar.metric, bar.base, bar.bound, bar.difference) for bar in bars.BARS}
        self.assertEqual(words["user-cost-pipelined", "raw_loop"], "user-space cost per request at most 6 ns more than raw_loop")
        self.assertEqual(words["pipelined", "raw_uring"], "server CPU per request at most 1.1 of raw_uring")
        self.assertEqual(words["start", ""], "time from start to first answer at most 50 ms")

    def test_each_bar_belongs_to_a_suite_in_which_its_servers_take_part(self):
        suites = {suite.name: suite for suite in bars.SUITES}
        for bar in bars.BARS:
            self.assertIn(bar.server, suites[bar.suite].servers)
            if bar.base:
                self.assertIn(bar.base, suites[bar.suite].servers)

    def test_suites_by_name(self):
        self.assertEqual([suite.name for suite in bars.suites_named(["churn", "keepalive64"])], ["keepalive64", "churn"])
        self.assertEqual(bars.suites_named([]), list(bars.SUITES))
        self.assertEqual(bars.suites_named(["all"]), list(bars.SUITES))
        with self.assertRaisesRegex(ValueError, "no suite chrun"):
            bars.suites_named(["chrun"])


class Reports(unittest.TestCase):
    def results(self):
        results = {
            "machine": {"cpu": "Processor <7>", "cpus": 2, "kernel": "6.18"},
            "suites": {"keepalive64": result_of(ferrule=[3.0 + index / 100 for index in range(15)], raw_uring=[3.0] * 15, nginx=[4.5] * 14 + [None])},
        }
        results["bars"] = report.judge_all(results)
        return results

    def test_the_document_has_every_server_and_the_losses(self):
        text = report.document(self.results())
        for expected in ("| ferrule ", "| raw_uring ", "failed in 1 of 15: it fell over", "inconclusive", "met"):
            self.assertIn(expected, text)

    def test_a_ratio_names_its_interval(self):
        result = self.results()["suites"]["keepalive64"]
        self.assertEqual(report.ratio(result, "ferrule", "raw_uring", "cpu_us"), "1.023 [1.010, 1.037]")
        self.assertEqual(report.ratio(result, "raw_uring", "raw_uring", "cpu_us"), "1")
        self.assertEqual(report.ratio(result, "ferrule", "asio_epoll", "cpu_us"), "-")

    def test_user_cost_has_a_column_of_differences_and_no_system_calls(self):
        results = self.results()
        results["suites"]["user-cost64"] = user_cost_of(ferrule=[70.0 + index for index in range(14)] + [None], raw_loop=[60.0] * 15)
        results["bars"] = report.judge_all(results)
        text = report.document(results).split("## user-cost64")[1]
        self.assertIn("15 rounds of 2,000,000 requests.", text)
        self.assertNotIn("system calls", text)
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
        self.assertEqual(cells[0], ["server", "ns/request in user space", "more than raw_loop, ns", "remarks"])
        self.assertEqual(cells[2], ["ferrule", "76.5", "16.5 [12.0, 21.0]", "failed in 1 of 15: it fell over"])
        self.assertEqual(cells[3], ["raw_loop", "60.0", "0", ""])
        self.assertIn("16.5 ns", report.bars_table(results["bars"]))
        self.assertEqual(report.difference(results["suites"]["user-cost64"], "ferrule", "nginx", "user_ns", 1), "-")
        suite = next(suite for suite in bars.SUITES if suite.name == "user-cost64")
        self.assertEqual(plot.strictest_bar(suite, results["suites"]["user-cost64"], results["bars"]), 60 + 25)

    def test_coordination_has_its_own_figure_and_unit(self):
        results = self.results()
        results["suites"]["channel"] = result_of(ferrule=[20.0] * 15)
        for cell in results["suites"]["channel"]["servers"]["ferrule"]["rounds"]:
            cell["item_ns"] = 4.25
        results["bars"] = report.judge_all(results)
        text = report.document(results).split("## channel")[1]
        self.assertIn("time per item, ns", text)
        self.assertIn("4.2", text)
        self.assertIn("time per item at most 50 ns", report.bars_table(results["bars"]))

    def test_unbounded_intervals_survive_json(self):
        results = self.results()
        results["suites"]["keepalive64"] = result_of(ferrule=[3.0], raw_uring=[3.0])
        results["bars"] = report.judge_all(results)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "results.json"
            report.save(path, results)
            self.assertNotIn("Infinity", path.read_text())
            self.assertEqual(report.load(path), results)

    def test_suites_that_keep_their_results_keep_their_machine(self):
        results = self.results()
        old, new = results["machine"], {"cpu": "Processor <8>", "cpus": 2, "kernel": "6.18"}
        report.change_machine(results, dict(old))
        self.assertNotIn("another machine", report.document(results))
        report.change_machine(results, new)
        results["suites"]["echo64"] = {key: value for key, value in results["suites"]["keepalive64"].items() if key != "machine"}
        text = report.document(results)
        self.assertIn("Processor <8>, 2 CPUs, Linux 6.18, where a suite does not name another machine.", text)
        self.assertIn("Processor <7>, 2 CPUs, Linux 6.18.", text.split("## keepalive64")[1].split("## echo64")[0])
        self.assertNotIn("Processor", text.split("## echo64")[1])
        report.change_machine(results, old)
        self.assertEqual(results["suites"]["echo64"]["machine"], new)
        self.assertEqual(results["suites"]["keepalive64"]["machine"], old)

    def test_no_results_yet(self):
        self.assertEqual(report.load(pathlib.Path("/nonexistent/results.json")), {"suites": {}})

    def test_the_plot_is_well_formed_and_shows_every_server(self):
        root = xml.etree.ElementTree.fromstring(plot.svg(self.results()))
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        for expected in ("ferrule", "raw_uring", "nginx"):
            self.assertIn(expected, texts)

    def test_a_suite_without_figures_is_still_a_panel(self):
        results = self.results()
        results["suites"]["keepalive64"] = result_of(ferrule=[None])
        xml.etree.ElementTree.fromstring(plot.svg(results))

    def test_the_strictest_bar_is_in_the_unit_of_the_panel(self):
        results = self.results()
        limit = plot.strictest_bar(SATURATING, results["suites"]["keepalive64"], results["bars"])
        self.assertAlmostEqual(limit, 3.0 * 1.03)


class Coordination(unittest.TestCase):
    def test_the_figure_of_the_suite_is_read(self):
        self.assertEqual(measure.parse_coordination('{"item_ns": 4.5, "wait_share": 0.0}\n', "", 0, "item_ns"),
                         {"item_ns": 4.5, "wait_share": 0.0, "marks": []})
        self.assertEqual(measure.parse_coordination('{"item_ns": 4.5, "wait_share": 0.2}\n', "", 0, "item_ns")["marks"], ["contended"])

    def test_what_is_no_figure_says_so(self):
        for output, errors, status in (("", "no ring", 1), ("nonsense", "", 0), ('{"other": 1}', "", 0), ("3", "", 0)):
            with self.assertRaises(measure.Failed):
                measure.parse_coordination(output, errors, status, "item_ns")


class CommandLine(unittest.TestCase):
    def refuse(self, *arguments):
        with self.assertRaises(SystemExit), redirect_stderr(io.StringIO()) as said:
            main.parse(arguments)
        return said.getvalue()

    def test_unknown_names_are_refused(self):
        self.assertIn("no suite nonsense", self.refuse("nonsense"))
        self.assertIn("no server nonsense", self.refuse("--servers", "nonsense"))
        self.assertIn("at least 1", self.refuse("--rounds", "0"))

    def test_a_missing_program_says_which(self):
        with tempfile.TemporaryDirectory() as folder:
            farm = servers.Farm(folder, 0)
            self.addCleanup(farm.close)
            with self.assertRaisesRegex(servers.Unavailable, "playground/plaintext is not built"):
                farm.command(bars.FERRULE, 1)

    def test_options_of_ferrule(self):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "playground/plaintext"
            program.parent.mkdir()
            program.touch(mode=0o755)
            farm = servers.Farm(folder, 0)
            self.addCleanup(farm.close)
            self.assertEqual(farm.command(bars.FERRULE, 7)[1:], ["--host", "0.0.0.0", "--port", "7", "--reactors", "1"])
            self.assertIn("--defer-accept", farm.command(bars.FERRULE, 7, suite_of("churn-deferred")))
            self.assertIn("--spin", farm.command(bars.FERRULE_SPIN, 7))
            for server in suite_of("tuned64").servers[1:]:
                self.assertEqual(farm.command(server, 7)[-len(servers.TUNING[server]) :], servers.TUNING[server])

    def test_two_reactors_have_both_cpus(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("echo", "plaintext"):
                program = pathlib.Path(folder) / "playground" / name
                program.parent.mkdir(exist_ok=True)
                program.write_text(f"#!/bin/sh\ngrep Cpus_allowed_list /proc/self/status >{folder}/cpus\nexit 1\n")
                program.chmod(0o755)
            allowed = sorted(os.sched_getaffinity(0))
            farm = servers.Farm(folder, allowed[0], allowed[-1])
            self.addCleanup(farm.close)
            self.assertEqual(farm.command(bars.TWO_REACTORS, 7, suite_of("scaling64"))[-4:], ["--port", "7", "--reactors", "2"])
            self.assertTrue(farm.command(bars.ONE_REACTOR, 7, suite_of("scaling-echo64"))[0].endswith("playground/echo"))
            for server, cpus in ((bars.ONE_REACTOR, {allowed[0]}), (bars.TWO_REACTORS, {allowed[0], allowed[-1]})):
                with self.assertRaises(servers.Unavailable), farm.running(server, suite_of("scaling64")):
                    self.fail("a program that has ended is taken for a server")
                said = (pathlib.Path(folder) / "cpus").read_text().split()[1]
                self.assertEqual({int(end) for part in said.split(",") for end in part.split("-")}, cpus)

    def test_patterns(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("bench/ferrule_patterns", "bench/raw_echo", "bench/raw_sink", "bench/raw_proxy", "playground/proxy-tcp"):
                program = pathlib.Path(folder) / name
                program.parent.mkdir(exist_ok=True)
                program.touch(mode=0o755)
            farm = servers.Farm(folder, 0)
            self.addCleanup(farm.close)
            echo = suite_of("echo16k")
            self.assertEqual(farm.command(bars.FERRULE, 7, echo)[1:], ["--port", "7", "--pattern", "echo"])
            self.assertEqual(farm.command(bars.FERRULE_STREAMED, 7, echo)[-1], "echo-streamed")
            self.assertEqual(farm.command(bars.RAW_ECHO, 7, echo)[1:], ["--port", "7", "--bytes", "16384"])
            self.assertEqual(farm.command(bars.RAW_ECHO_COPIED, 7, echo)[1:], ["--port", "7", "--bytes", "16384", "--copied"])
            sink = suite_of("stream-in")
            self.assertEqual(farm.command(bars.RAW_SINK, 7, sink)[1:], ["--port", "7", "--bytes", "262144"])
            self.assertEqual(farm.command(bars.RAW_SINK_SHARED, 7, sink)[-1], "--shared")
            proxy = suite_of("proxy-tcp")
            self.assertIn("127.0.0.1:20007", farm.command(bars.FERRULE, 7, proxy))
            self.assertEqual(farm.command(bars.RAW_PROXY, 7, proxy)[1:], ["--port", "7", "--bytes", "262144", "--to", "20007"])
            command = farm.command(bars.FERRULE, 7, suite_of("file1m"))
            self.assertEqual(pathlib.Path(command[-1]).stat().st_size, 1 << 20)
            self.assertEqual(command[-4:-1], ["--pattern", "files", "--file"])

    def test_a_suite_of_a_pattern_is_compared_with_whom_its_bars_name(self):
        self.assertEqual(report.bases_of(suite_of("keepalive64")), (bars.RAW_URING, bars.NGINX))
        self.assertEqual(report.bases_of(suite_of("proxy-tcp")), (bars.RAW_PROXY, bars.HAPROXY, bars.HAPROXY_SPLICE))
        self.assertEqual(report.bases_of(suite_of("scaling64")), (bars.ONE_REACTOR,))
        self.assertEqual(report.bases_of(suite_of("tuned64")), (bars.FERRULE,))

    def test_the_spinning_ceiling_is_the_ceiling_with_an_option(self):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "bench/raw_uring"
            program.parent.mkdir()
            program.touch(mode=0o755)
            farm = servers.Farm(folder, 0)
            self.addCleanup(farm.close)
            self.assertEqual(farm.command(bars.RAW_URING_SPIN, 7), [str(program), "--port", "7", "--spin"])


if __name__ == "__main__":
    unittest.main()
