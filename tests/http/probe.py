#!/usr/bin/env python3
"""The cases of probe_cases.tsv against a server that listens: what comes back is one of what each case allows.

    probe.py [--host HOST] [--wait SECONDS] [--jobs N] [--list] PORT [case ...]
    probe.py [...] -- program argument ...

The second form is for a program of ours: it starts it, reads the port from the first line that it prints, ends it with SIGTERM, and
expects the very status with which ours refuses a case. Prints what fails, a line for
each case with --list, and how many passed. Exit status 1: one that is scored (must, should or may) did not.
"""

import argparse
import concurrent.futures
import dataclasses
import pathlib
import re
import signal
import socket
import subprocess
import sys

CASES = pathlib.Path(__file__).with_name("probe_cases.tsv")
PATIENCE = 30  # seconds
ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


@dataclasses.dataclass
class Case:
    id: str
    level: str
    allowed: str
    here: str
    steps: list


@dataclasses.dataclass
class Answer:
    """What came back for a step. Status 0: no answer."""

    status: int
    fields: dict
    body: bytes
    count: int
    closed: bool


def expanded(word, said):
    what, _, count = word.partition("*")
    if not count:
        return said.get(what, '"none"')
    numbers = range(int(count))
    if what == "binary":
        return "".join(chr(128 + number * 37 % 128) for number in numbers)
    if what == "fields":
        return "".join(f"X-H-{number}: value\r\n" for number in numbers)
    if what == "pairs":
        return "; ".join(f"k{number}=v{number}" for number in numbers)
    return what * int(count)


def unescaped(text, said):
    """The bytes of a step; `said` is what the first answer said."""
    pattern = re.compile(r"\\x([0-9a-f]{2})|\\([rnt0\\])|\{([^}]*)\}")

    def replaced(match):
        if match[1]:
            return chr(int(match[1], 16))
        return ESCAPES[match[2]] if match[2] else expanded(match[3], said)

    return pattern.sub(replaced, text).encode("latin-1")


def read_cases():
    cases = []
    for line in CASES.read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            identity, level, allowed, here, request = line.split("\t")
            cases.append(Case(identity, level, allowed, here, request.split(" -> ")))
    return cases


class Connection:
    """A connection whose answers are counted by what they say of their own length."""

    def __init__(self, host, port):
        self._socket = socket.create_connection((host, port), PATIENCE)
        self._bytes = b""
        self._ended = False

    def close(self):
        self._socket.close()

    def send(self, data):
        try:
            self._socket.settimeout(PATIENCE)
            self._socket.sendall(data)
        except OSError:
            pass  # it was closed before all was sent: what came back counts

    def _more(self, seconds):
        """Whether more bytes have come."""
        if self._ended:
            return False
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        self._ended = not data
        self._bytes += data
        return bool(data)

    def _body(self, status, fields, is_head, seconds):
        if is_head or status < 200 or status in (204, 304):
            return b""
        if "chunked" in fields.get("transfer-encoding", ""):
            body = b""
            while True:
                while b"\r\n" not in self._bytes:
                    if not self._more(seconds):
                        return body
                size, self._bytes = self._bytes.split(b"\r\n", 1)
                size = int(size.split(b";")[0], 16)
                while len(self._bytes) < size + 2:
                    if not self._more(seconds):
                        return body
                body += self._bytes[:size]
                self._bytes = self._bytes[size + 2 :]
                if size == 0:
                    return body
        if "content-length" in fields:
            size = int(fields["content-length"])
            while len(self._bytes) < size and self._more(seconds):
                pass
            body, self._bytes = self._bytes[:size], self._bytes[size:]
            return body
        while self._more(seconds):
            pass
        body, self._bytes = self._bytes, b""
        return body

    def _one(self, is_head, seconds):
        """The next final answer, or None."""
        while True:
            while b"\r\n\r\n" not in self._bytes:
                if not self._more(seconds):
                    return None
            head, self._bytes = self._bytes.split(b"\r\n\r\n", 1)
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ")[1])
            fields = {}
            for line in lines[1:]:
                name, _, value = line.partition(":")
                fields[name.lower()] = value.strip()
            body = self._body(status, fields, is_head, seconds)
            if status >= 200 or status == 101:
                return status, fields, body

    def answers(self, is_head, patience, seconds):
        """The answer to what was sent, with how many there were in all and whether the connection ended behind them within these seconds."""
        first = self._one(is_head, patience)
        count = 1 if first else 0
        # Whatever else comes, comes at once: the end of the connection, or an answer to what nobody has asked.
        while not self._ended and self._more(seconds):
            pass
        while self._one(False, 0.01):
            count += 1
        status, fields, body = first or (0, {}, b"")
        return Answer(status, fields, body, count, self._ended)


def is_status(word, status):
    if word == "any":
        return status > 0
    if word.startswith("not="):
        return status > 0 and status != int(word[4:])
    return status // 100 == int(word[0]) if word.endswith("xx") else status == int(word)


def holds(choice, answers):
    """Whether one alternative of a case is what came back."""
    words = re.split(r" (?=closed|answers=|then=|empty|body|has=|not=|\d+-has)", choice)
    answer = answers[0]
    if words[0] == "close":
        return answer.status == 0 and answer.closed
    if words[0] == "timeout":
        return answer.status == 0 and not answer.closed
    if answer.status == 0 or not is_status(words[0], answer.status):
        return False
    text = answer.body.decode("latin-1")
    for word in words[1:]:
        name, _, value = word.partition("=")
        status, _, condition = name.rpartition("-")
        if status and answer.status != int(status):
            continue
        if condition == "closed":
            held = answer.closed
        elif condition == "answers":
            held = all(one.count == int(value) for one in answers if one.status)
        elif condition == "then":
            held = len(answers) > 1 and is_status(value, answers[1].status) or answer.closed
        elif condition == "empty":
            held = not text
        elif condition == "body":
            held = text == value
        elif condition == "bodynot":
            held = value.lower() not in text.lower()
        elif condition == "not":
            held = answer.status != int(value)
        else:
            held = (value.lower() in answer.fields) == (condition == "has")
        if not held:
            return False
    return True


def run(case, options):
    """What came back, and whether the case allows it."""
    connection = Connection(options.host, options.port)
    answers, said = [], {}
    # Only what has to come is waited for: a busy machine fails nothing.
    patience = options.wait if "timeout" in case.allowed.split("|") else PATIENCE
    behind = PATIENCE if " closed" in case.allowed else options.wait
    try:
        for step in case.steps:
            data = unescaped(step, said)
            connection.send(data)
            answers.append(connection.answers(data.startswith(b"HEAD "), patience, behind))
            said = said or answers[0].fields
            if answers[-1].closed or answers[-1].status == 0:
                break
    finally:
        connection.close()
    passed = any(holds(choice, answers) for choice in case.allowed.split("|"))
    if options.is_ours and case.here.isdigit():
        passed = passed and any(answer.status == int(case.here) for answer in answers)
    return passed, answers


def judge(options):
    cases = [case for case in read_cases() if not options.cases or case.id in options.cases]
    if not cases:
        sys.exit("probe.py: no such case")
    failed, scored = [], 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for case, (passed, answers) in zip(cases, pool.map(lambda case: run(case, options), cases), strict=True):
            scored += case.level != "free"
            if not passed:
                failed.append(case)
            if options.list or not passed:
                came = ", then ".join(
                    f"{answer.status or 'nothing'}{' and the end' if answer.closed else ''}" + (f", {answer.count} in all" if answer.count > 1 else "")
                    for answer in answers
                )
                print(f"{'passed' if passed else 'FAILED'} {case.level:6} {case.id}: {came}" + ("" if passed else f"; allowed: {case.allowed}"))
    print(f"{len(cases) - len(failed)} of {len(cases)} cases, {scored - sum(case.level != 'free' for case in failed)} of {scored} that are scored")
    return 1 if any(options.is_ours or case.level != "free" for case in failed) else 0


def main():
    arguments = sys.argv[1:]
    program = []
    if "--" in arguments:
        program = arguments[arguments.index("--") + 1 :]
        arguments = arguments[: arguments.index("--")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--wait", type=float, default=0.5, help="seconds for what may come behind an answer, or where none may come")
    parser.add_argument("--jobs", type=int, default=16, help="cases at a time")
    parser.add_argument("--list", action="store_true", help="print each case")
    if not program:
        parser.add_argument("port", type=int)
    parser.add_argument("cases", nargs="*", help="only these")
    options = parser.parse_args(arguments)
    options.is_ours = bool(program)
    if not program:
        return judge(options)
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            found = re.search(r"\d+$", process.stdout.readline().strip())
            if not found:
                sys.exit(f"probe.py: {program[0]} does not print its port")
            options.port = int(found[0])
            result = judge(options)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    if status != 0:
        print(f"probe.py: {program[0]} ended with status {status}")
    return result or int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
