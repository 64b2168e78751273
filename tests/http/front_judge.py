"""Whether a front and a back have understood the same by what flowed between them.

Every client has an address of its own, which stands in no byte that it sends: only its front writes it, once into each request that it forwards.
So a request that the back sees without such an address is one that its front never knew, and an address that the back has not answered stands in
a request that the back never saw. Besides, the front's bytes are read by the parser of front_messages.py, which knows no leniency.
"""

import collections
import re

import front_messages as messages
import front_peers
import front_streams

ADDRESS = re.compile(rb"127\.[12]\d\d\.[12]\d\d\.[12]\d\d(?!\d)")
SHOWN_BYTES = 2500

# What is wrong, where it shows; `settles`: whether it may be right a little later; `counts`: whether front and back count requests differently, or
# pass on one's answer for another's.
Disagreement = collections.namedtuple("Disagreement", "what where settles counts")


def address_of(random):
    """An address that ADDRESS finds, of one length so that none is the beginning of another."""
    return "127." + ".".join(str(random.randrange(100, 255)) for _ in range(3))


def shown(data):
    data = bytes(data)
    lines = [repr(line)[1:] for line in data[:SHOWN_BYTES].splitlines(keepends=True)]
    if len(data) > SHOWN_BYTES:
        lines.append(f"... {len(data) - SHOWN_BYTES} bytes more")
    return "".join(f"\n      {line}" for line in lines)


def _body_lines(response):
    return dict(line.split(b"=", 1) for line in response.body.splitlines() if b"=" in line)


def _is_answer(response):
    """Whether it is an answer of a back's handler, not a refusal or a front's own."""
    return messages.value_of(response.fields, b"x-target") is not None


def _is_early(response):
    """Whether it was made without a look at the request's body."""
    return messages.value_of(response.fields, b"x-early") is not None


def responses_of(connection):
    """All responses of a back, and what is wrong with the bytes behind the last."""
    found, at, data = [], 0, bytes(connection.from_back)
    while at < len(data):
        try:
            response = messages.take_response(data, at, connection.back_ended is not None)
        except messages.Incomplete:
            return found, "breaks off"
        except messages.Refused as refusal:
            return found, str(refusal)
        found.append(response)
        at = response.end
    return found, None


class Verdict:
    """What one door's run has shown."""

    def __init__(self):
        self.disagreements = []
        self.counts = collections.Counter()

    def disagree(self, what, where, settles=False, counts=False):
        self.disagreements.append(Disagreement(what, where(), settles, counts))


def judge(connections, clients):
    """A verdict on a door, by the connections to its back and the clients of it."""
    verdict = Verdict()
    by_address = {client.address.encode(): client for client in clients}
    answered = collections.defaultdict(list)
    for connection in connections:
        _judge_back(verdict, connection, by_address, answered)
    for address, client in by_address.items():
        _judge_client(verdict, client, address, answered[address])
    return verdict


def _judge_back(verdict, connection, by_address, answered):
    data = bytes(connection.to_back)
    forwarded = [address for address in ADDRESS.findall(data) if address in by_address]
    streams = sorted({by_address[address].stream.index for address in forwarded})

    def where():
        return f"on a connection to the back, streams {streams}:\n    to the back:{shown(data)}\n    from the back:{shown(connection.from_back)}"

    responses, wrong = responses_of(connection)
    finals = [response for response in responses if response.status >= 200]
    requests, end = messages.take_requests(data)
    verdict.counts["forwarded"] += len(forwarded)
    if wrong is not None and (wrong != "breaks off" or connection.back_ended is not None) and connection.front_ended is None:
        verdict.disagree(f"the back's answer is none: {wrong}", where)
    if len(finals) > len(forwarded):
        verdict.disagree(f"the back answers {len(finals)} requests, where its front has forwarded {len(forwarded)}", where, counts=True)
    closing = False
    for place, response in enumerate(finals):
        if closing:
            verdict.disagree("the back answers behind an answer that ends the connection", where)
            break
        closing = b"close" in [value.lower() for value in messages.values_of(response.fields, b"connection")]
        if not _is_answer(response):
            verdict.counts["refused by the back"] += 1
            if response.status < 400:
                verdict.disagree(f"the back answers {response.status} without a handler", where)
            if place < len(requests):
                verdict.counts["refused by the back, though whole and right"] += 1
                client = by_address.get(forwarded[place]) if place < len(forwarded) else None
                if client is not None and client.stream.expected is not None:
                    verdict.disagree(f"the back refuses a valid request with {response.status}", where)
            if not closing:
                verdict.disagree("the back refuses, and says not that it closes", where)
            if connection.back_ended is None:
                verdict.disagree("the back refuses, and does not close", where, settles=True)
            closing = True
            continue
        verdict.counts["answered by the back"] += 1
        _judge_answer(verdict, where, response, requests[place] if place < len(requests) else None, end)
        seen = set(ADDRESS.findall(messages.value_of(response.fields, b"x-seen") or b"")) & set(by_address)
        if len(seen) != 1:
            target = messages.value_of(response.fields, b"x-target")
            verdict.disagree(f"the back answers a request that its front did not forward as one: {target!r}", where, counts=True)
            continue
        found = front_streams.TARGET.search(messages.value_of(response.fields, b"x-target"))
        if found:
            verdict.counts["of these, taken for requests by their front, too, though in a body"] += found[2] == b"e"
            answered[seen.pop()].append((connection.arrived(response.end), int(found[1]), int(found[3]), where))
        else:
            answered[seen.pop()].append((connection.arrived(response.end), None, None, where))
    # Behind a body that is not read the back may close.
    if finals and _is_early(finals[-1]) and connection.back_ended is not None:
        closing = True
    if len(finals) < len(requests) and not closing and connection.front_ended is None:
        what = f"the back answers {len(finals)} of {len(requests)} whole requests"
        verdict.disagree(what, where, settles=connection.back_ended is None, counts=True)


def _judge_answer(verdict, where, response, request, end):
    """An answer, and the request that it is for by the rules."""
    if request is None and _is_early(response):
        return
    if request is None:
        what = "no whole request" if end in ("complete", "incomplete") else f"no request, but {end}"
        verdict.disagree(f"the back answers what is {what}", where)
        return
    lines = _body_lines(response)
    told = {b"x-target": request.target, b"x-method": request.method}
    wrong = {name: messages.value_of(response.fields, name) for name, value in told.items()
             if messages.value_of(response.fields, name) != front_peers.header_text(value)}
    if request.method != b"HEAD" and not _is_early(response):
        told = {b"length": b"%d" % len(request.body), b"crc": messages.checksum(request.body), b"target": front_peers.header_text(request.target),
                b"method": request.method}
        wrong |= {name: lines.get(name) for name, value in told.items() if lines.get(name) != value}
    if wrong:
        what = f"{request.method!r} {request.target!r} with {len(request.body)} bytes"
        verdict.disagree(f"the back answers another request than {what}: {wrong}", where)


def _judge_client(verdict, client, address, answered):
    stream = client.stream

    def where():
        return f"at the client of stream {stream.index}, bent by {stream.bent or 'nothing'}:\n    sent:{shown(stream.data + stream.follow_up)}\n" \
               f"    received:{shown(client.received)}"

    verdict.counts["streams"] += 1
    verdict.counts["valid streams"] += stream.expected is not None
    foreign = set(ADDRESS.findall(bytes(client.received))) - {address}
    if foreign:
        verdict.disagree("a client gets another's answer", where, counts=True)
    numbers = []
    answers = [response for response in client.finals() if _is_answer(response)]
    for response in answers:
        target = messages.value_of(response.fields, b"x-target")
        if address not in (messages.value_of(response.fields, b"x-seen") or b""):
            verdict.disagree("a client gets an answer for a request that its front did not forward", where, counts=True)
        if response.body and _body_lines(response).get(b"target") != target:
            verdict.disagree("a client gets a body that is another answer's", where, counts=True)
        found = front_streams.TARGET.search(target)
        if found:
            if int(found[1]) != stream.index:
                verdict.disagree("a client gets the answer to another's request", where, counts=True)
            numbers.append(int(found[3]))
    if sorted(set(numbers)) != numbers:
        verdict.disagree(f"a client gets its answers out of order, or twice: {numbers}", where, counts=True)
    if len(answers) > len(answered):
        verdict.disagree(f"a client gets {len(answers)} answers of the back, which gave it {len(answered)}", where, counts=True)
    order = [number for _, _, number, _ in sorted(answered, key=lambda each: each[0]) if number is not None]
    if sorted(order) != order:
        verdict.disagree(f"the back gets a client's requests out of order: {order}", where, counts=True)
    if any(index not in (None, stream.index) for _, index, _, _ in answered):
        verdict.disagree("the back gets a request under another client's address", where, counts=True)
    if stream.expected is not None:
        _judge_valid(verdict, client, where)


def _judge_valid(verdict, client, where):
    finals = client.finals()
    for expected, response in zip(client.stream.expected, finals):
        if not _is_answer(response):
            verdict.counts["valid streams refused by their front"] += 1
            return
        target = b"/s%d/r%d" % (client.stream.index, expected.number)
        if messages.value_of(response.fields, b"x-target") != target or messages.value_of(response.fields, b"x-method") != expected.method:
            verdict.disagree(f"the answer to {target!r} is another's: {response.fields}", where, counts=True)
            return
        lines = _body_lines(response)
        body = (b"%d" % expected.length, messages.checksum(expected.content))
        if expected.method != b"HEAD" and not _is_early(response) and (lines.get(b"length"), lines.get(b"crc")) != body:
            verdict.disagree(f"the back tells of another body than the {expected.length} bytes of {target!r}: {lines}", where)
            return
    if len(finals) == len(client.stream.expected):
        verdict.counts["valid streams answered whole"] += 1
    elif client.gave_up:
        verdict.disagree(f"of {len(client.stream.expected)} valid requests {len(finals)} are answered, and no more", where)
