"""Bent requests through real reverse proxies: whether front and back see the same requests in them (the gate H1-30).

    fronts.py through FRONT BACK...    streams through each door of that front, to the server that the command BACK runs
    fronts.py fragments BACK...        the same requests whole, cut at every byte and byte by byte, to that server without a front: the same answers
    fronts.py self-test FRONT          that backs which are careless are found out behind it, and a strict one is not

BACK says on its first line `127.0.0.1:<port>`, and answers as front_peers.py says; `python` is that one. A front is one of nginx, haproxy, apache,
varnish, h2o and careless, which is a program of these tests. What is not installed is skipped: the exit status is 77 then. Streams are made by
--seed and number, so each can be sent again: --only. The exit status is 1 when there is a disagreement; the bytes are shown.
"""

import argparse
import contextlib
import itertools
import random
import re
import socket
import sys
import time

import front_exchange
import front_judge
import front_messages as messages
import front_programs
import front_streams

STREAMS_AT_ONCE = 24
# After so many streams front and back are started anew, and what has been recorded is judged and forgotten.
ROUND_STREAMS = 2000
# What may come a little later than the last client has gone, comes in this time.
SETTLE_SECONDS = 20
SHOWN_DISAGREEMENTS = 3
# Of the valid streams so many have to be answered, or the test is no test.
ANSWERED_SHARE_MIN = 0.7
PYTHON_BACK = [sys.executable, str(front_programs.HERE / "front_peers.py"), "back"]


# ---- through a front ------------------------------------------------------------------------------------------------------------------


def send_streams(loop, address, relay, streams, seed):
    """All streams through a door, a number of them at once; the verdict."""
    waiting = list(reversed(streams))
    clients, running = [], set()
    addresses = random.Random(f"{seed}/addresses")
    used = set()

    def begin():
        while waiting and len(running) < STREAMS_AT_ONCE:
            own = front_judge.address_of(addresses)
            while own in used:
                own = front_judge.address_of(addresses)
            used.add(own)
            client = front_exchange.Client(loop, address, waiting.pop(), own, running.discard)
            clients.append(client)
            running.add(client)

    def all_done():
        begin()
        return not running and not waiting

    loop.run(all_done)
    verdict = front_judge.judge(relay.connections, clients)
    until = time.monotonic() + SETTLE_SECONDS
    while any(each.settles for each in verdict.disagreements) and time.monotonic() < until:
        loop.run(lambda: False, 0.2)
        verdict = front_judge.judge(relay.connections, clients)
    return verdict


def run_front(front, back, streams, seed):
    """The verdict on each door."""
    verdicts = {}
    with contextlib.ExitStack() as stack:
        loop = front_exchange.Loop()
        stack.callback(loop.close)
        relays = []
        for _ in front.doors:
            relays.append(front_exchange.Relay(loop, back))
            stack.callback(relays[-1].close)
        addresses = stack.enter_context(front.running([relay.address for relay in relays]))
        for door, address, relay in zip(front.doors, addresses, relays):
            verdicts[door] = send_streams(loop, address, relay, streams, seed)
    return verdicts


def check_front(name, back_command, streams, seed):
    """Sends the streams through each door; whether all agree."""
    began = time.monotonic()
    with front_programs.said_address(back_command) as back:
        verdicts = run_front(front_programs.FRONTS[name], back, streams, seed)
    right = True
    for door, verdict in verdicts.items():
        counts = verdict.counts
        print(f"{door}: " + ", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
        if counts["valid streams answered whole"] < ANSWERED_SHARE_MIN * counts["valid streams"]:
            print(f"{door}: too few valid streams have been answered to show anything")
            right = False
        for each in verdict.disagreements[:SHOWN_DISAGREEMENTS]:
            print(f"{door}: DISAGREEMENT: {each.what}\n  {each.where}")
        if len(verdict.disagreements) > SHOWN_DISAGREEMENTS:
            print(f"{door}: {len(verdict.disagreements)} disagreements in all")
        right = right and not verdict.disagreements
    print(f"{name}: {time.monotonic() - began:.1f} s")
    return right


# ---- in fragments ---------------------------------------------------------------------------------------------------------------------


class Peer:
    """A connection to a server, which says what it has to say at the end."""

    def __init__(self, address):
        self._socket = socket.create_connection(address, front_exchange.VALID_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        try:
            self._socket.sendall(data)
        except OSError:
            # A server that has refused need not take more.
            pass

    def receive_answer(self):
        """One answer, on a connection that stays."""
        data = bytearray()
        while True:
            try:
                return messages.take_response(data)
            except messages.Incomplete:
                data += self._receive()

    def receive_all(self):
        """All that the server says until it closes."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        data = bytearray()
        try:
            while received := self._socket.recv(front_exchange.RECEIVE_BYTES):
                data += received
        except ConnectionResetError:
            data += b" reset"
        return bytes(data)

    def _receive(self):
        received = self._socket.recv(front_exchange.RECEIVE_BYTES)
        if not received:
            raise RuntimeError("the server has closed a connection that stays")
        return received


class Server(Peer):
    """The server, with a connection that tells when it has come so far."""

    def __init__(self, address):
        super().__init__(address)
        self.address = address

    def settle(self):
        """Comes back when it answers who asks behind all that it has been sent: as far as one reactor goes, it has seen that."""
        self.send(b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n")
        self.receive_answer()


def answers_of(data):
    """What a server has said, without what differs from one time to another; 100 is not counted, because who has all of a body needs none."""
    data = re.sub(rb"\r\nDate: [^\r]*", b"", data)
    found, at = [], 0
    while at < len(data):
        try:
            response = messages.take_response(data, at)
        except (messages.Incomplete, messages.Refused) as error:
            found.append((f"no answer: {error}", data[at:at + 200]))
            break
        at = response.end
        if response.status >= 200:
            found.append((response.status, response.fields, response.body))
    return found


def fragment_streams(seed, count):
    """Requests of each form whole, and bent ones."""
    host = b"Host: example.test\r\n"
    chunked = host + b"Transfer-Encoding: chunked\r\n"

    def get(target):
        return b"GET " + target + b" HTTP/1.1\r\n" + host + b"\r\n"

    streams = {
        "a GET": get(b"/1"),
        "an empty line before": b"\r\n" + get(b"/1"),
        "a body": b"POST /2 HTTP/1.1\r\n" + host + b"Content-Length: 11\r\n\r\nhello world",
        "chunks": b"POST /3 HTTP/1.1\r\n" + chunked + b"\r\n5\r\nhello\r\n006\r\n world\r\n0\r\nX-Trailer: a\r\n\r\n",
        "pipelined": get(b"/4") + b"POST /5 HTTP/1.1\r\nContent-Length: 3\r\n" + host + b"\r\nabc" + get(b"/6"),
        "pipelined chunks": b"POST /7 HTTP/1.1\r\n" + chunked + b"\r\n1\r\na\r\n0\r\n\r\nPUT /8 HTTP/1.1\r\n" + chunked +
                            b"\r\n0\r\n\r\nHEAD /9 HTTP/1.1\r\n" + host + b"\r\n",
        "a body that reads as a request": b"POST /10 HTTP/1.1\r\n" + host + b"Content-Length: %d\r\n\r\n" % len(get(b"/no")) +
                                          get(b"/no") + get(b"/11"),
        "an expectation": b"PUT /12 HTTP/1.1\r\n" + host + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody" + get(b"/13"),
        "a last request": b"GET /14 HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n" + get(b"/no"),
        "HTTP/1.0": b"GET /15 HTTP/1.0\r\n\r\nGET /no HTTP/1.0\r\n\r\n",
        "HTTP/1.0 that stays": b"POST /16 HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\naGET /17 HTTP/1.0\r\n\r\n",
        "bare LF": b"GET /18 HTTP/1.1\nHost: a\n\n",
        "a folded line": b"GET /19 HTTP/1.1\r\n" + host + b"X: a\r\n b\r\n\r\n",
        "two lengths": b"POST /20 HTTP/1.1\r\n" + host + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "chunk data without its end": b"POST /21 HTTP/1.1\r\n" + chunked + b"\r\n1\r\nabc\r\n0\r\n\r\n",
        "another version": b"GET /22 HTTP/2.0\r\n" + host + b"\r\n",
        "an unknown expectation": b"GET /23 HTTP/1.1\r\n" + host + b"Expect: a\r\n\r\n",
    }
    bent = (front_streams.make(seed, index) for index in range(1 << 30))
    for stream in bent:
        if count == 0:
            break
        data = stream.data + stream.follow_up
        # Long ones have as many cuts, and show no more.
        if stream.expected is None and len(data) < 700:
            count -= 1
            streams[f"stream {stream.index}, bent by {', '.join(stream.bent)}"] = data
    return streams


def check_fragments(back_command, seed, count):
    """Whether each stream has the same answers whole, in two pieces with any cut, and byte by byte."""
    began = time.monotonic()
    streams = fragment_streams(seed, count)
    right, cuts = True, 0
    with front_programs.said_address(back_command) as address, Server(address) as server:
        whole = {}
        for name, data in streams.items():
            with Peer(address) as peer:
                peer.send(data)
                whole[name] = answers_of(peer.receive_all())
        for name, what, received in itertools.chain(in_two(server, streams), in_bytes(server, streams)):
            cuts += 1
            if answers_of(received) != whole[name]:
                print(f"DISAGREEMENT: {name}: {what}:{front_judge.shown(streams[name])}\n  whole: {whole[name]}\n  then: {answers_of(received)}")
                right = False
                break
    print(f"fragments: {len(streams)} streams, sent in {cuts} ways, {time.monotonic() - began:.1f} s")
    return right


def in_two(server, streams):
    for name, data in streams.items():
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(Peer(server.address)) for _ in range(1, len(data))]
            for cut, peer in enumerate(peers, 1):
                peer.send(data[:cut])
            server.settle()
            for cut, peer in enumerate(peers, 1):
                peer.send(data[cut:])
            for cut, peer in enumerate(peers, 1):
                yield name, f"cut at byte {cut}", peer.receive_all()


def in_bytes(server, streams):
    with contextlib.ExitStack() as stack:
        peers = {name: stack.enter_context(Peer(server.address)) for name in streams}
        for place in range(max(map(len, streams.values()))):
            for name, data in streams.items():
                peers[name].send(data[place:place + 1])
            server.settle()
        for name, peer in peers.items():
            yield name, "byte by byte", peer.receive_all()


# ---- that it can fail -----------------------------------------------------------------------------------------------------------------

# What a back does that is found out by a front that passes on what it was given.
FOUND_BY_CARELESS = ("bare-lf", "obs-fold", "space-before-colon", "last-length", "length-over-coding", "coding-on-1.0", "loose-coding", "chunk-end",
                     "loose-chunk-size", "no-body-of-get")
SELF_STREAMS = 150
# Of those in which a leniency finds other requests than the rules do.
LENIENCY_STREAMS = 8


def streams_that_show(leniency, seed):
    chosen = []
    for stream in map(front_streams.make, itertools.repeat(seed), itertools.count()):
        data = stream.data + stream.follow_up
        found, _ = messages.take_requests(data, {leniency})
        if found and found != messages.take_requests(data)[0]:
            chosen.append(stream)
            if len(chosen) == LENIENCY_STREAMS:
                return chosen


def disagreements_of(name, lenient, streams, seed):
    with front_programs.said_address([*PYTHON_BACK, *lenient]) as back:
        verdicts = run_front(front_programs.FRONTS[name], back, streams, seed)
    return [(door, each) for door, verdict in verdicts.items() for each in verdict.disagreements]


def check_self(name, seed):
    """That careless backs behind this front are found out, and a strict one is not."""
    right = True
    streams = [front_streams.make(seed, index) for index in range(SELF_STREAMS)]

    def expect(what, holds, found):
        nonlocal right
        print(f"{name}, {what}: {f'{len(found)} disagreements, such as {found[0][0]}: {found[0][1].what}' if found else 'agrees'}"
              f"{'' if holds else ' -- WRONG'}")
        right = right and holds

    if name == "careless":
        for leniency in FOUND_BY_CARELESS:
            found = disagreements_of(name, [leniency], streams_that_show(leniency, seed), seed)
            expect(f"a back with {leniency}", bool(found), found)
    found = [(door, each) for door, each in disagreements_of(name, messages.LENIENCIES, streams, seed) if each.counts]
    expect("a back with all leniencies", bool(found), found)
    found = disagreements_of(name, [], streams, seed)
    expect("a strict back", not found, found)
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--streams", type=int, default=150, help="how many, through each door")
    parser.add_argument("--only", type=int, help="the number of a stream: only that one")
    commands = parser.add_subparsers(dest="command", required=True)
    through = commands.add_parser("through")
    through.add_argument("front", choices=sorted(front_programs.FRONTS))
    through.add_argument("back", nargs=argparse.REMAINDER)
    fragments = commands.add_parser("fragments")
    fragments.add_argument("back", nargs=argparse.REMAINDER)
    self_test = commands.add_parser("self-test")
    self_test.add_argument("front", choices=sorted(front_programs.FRONTS))
    arguments = parser.parse_args()
    try:
        if arguments.command == "self-test":
            return 0 if check_self(arguments.front, arguments.seed) else 1
        back = PYTHON_BACK if arguments.back == ["python"] else arguments.back
        if arguments.command == "fragments":
            return 0 if check_fragments(back, arguments.seed, arguments.streams) else 1
        for first in range(0, arguments.streams, ROUND_STREAMS):
            numbers = range(first, min(first + ROUND_STREAMS, arguments.streams)) if arguments.only is None else [arguments.only]
            if not check_front(arguments.front, back, [front_streams.make(arguments.seed, number) for number in numbers], arguments.seed):
                return 1
    except front_programs.Unavailable as reason:
        print(f"SKIPPED: {reason}")
        return 77
    return 0


if __name__ == "__main__":
    sys.exit(main())
