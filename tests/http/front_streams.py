"""Streams of requests for fronts.py: by a seed, some all valid, most with one or two requests bent in the ways that smuggling lives on.

Each request has a number of its own in its target, `/s<stream>/r<number>`, in the order in which they begin. Bodies often hold what looks like
a request, `/s<stream>/e<number>`: whoever gets a body's length wrong meets it.
"""

import dataclasses
import random
import re

HOST = b"example.test"
TARGET = re.compile(rb"/s(\d+)/([re])(\d+)")


@dataclasses.dataclass
class Head:
    """A request in the pieces that are bent: a field is name, separator, value and line end."""

    method: bytes
    target: bytes
    fields: list
    body: bytes = b""
    version: bytes = b"HTTP/1.1"
    # Between method, target and version, and behind them.
    gaps: tuple = (b" ", b" ", b"\r\n")
    before: bytes = b""
    blank: bytes = b"\r\n"
    # The body when chunks and the like are taken off: what a valid request's answer has to tell.
    content: bytes = b""

    def __bytes__(self):
        line = self.method + self.gaps[0] + self.target + self.gaps[1] + self.version + self.gaps[2]
        return self.before + line + b"".join(b"".join(field) for field in self.fields) + self.blank + self.body

    def add(self, name, value, separator=b": ", end=b"\r\n"):
        self.fields.append([name, separator, value, end])

    def find(self, name):
        return [field for field in self.fields if field[0].lower() == name]


@dataclasses.dataclass
class Expected:
    """What the answer of a valid request has to tell."""

    number: int
    method: bytes
    length: int
    content: bytes


@dataclasses.dataclass
class Stream:
    index: int
    # What is sent, one piece after the other; a request of its own behind it; whether the sending side is shut down at the end.
    pieces: list
    follow_up: bytes
    fin: bool
    # The number of the follow-up.
    last: int
    # For valid streams, all requests of it; otherwise None.
    expected: list
    bent: list

    @property
    def data(self):
        return b"".join(self.pieces)


class _Maker:
    def __init__(self, seed, index):
        self.random = random.Random(f"{seed}/{index}")
        self.index = index
        self.number = 0

    def next_target(self, kind):
        self.number += 1
        return b"/s%d/%b%d" % (self.index, kind, self.number)

    def plain(self, kind=b"r"):
        return Head(b"GET", self.next_target(kind), [[b"Host", b": ", HOST, b"\r\n"]])

    def content(self):
        """A body; half of the time it reads as a request, alone or with what ends a chunked body before it."""
        choice = self.random.randrange(8)
        if choice < 2:
            return bytes(self.plain(b"e"))
        if choice == 2:
            return b"0\r\n\r\n" + bytes(self.plain(b"e"))
        if choice == 3:
            return b"\r\n0\r\n\r\n" + bytes(self.plain(b"e")) + b"x"
        size = self.random.choice((0, 1, 2, 5, 16, 17, 100, 1000, 4096, 20000, 70000))
        return bytes(self.random.choice(b"abc\r\n0123 :") for _ in range(min(size, 64))) * (size // 64 + 1)

    def chunks(self, content):
        """The content in chunks of any sizes, as they are valid."""
        body, at = b"", 0
        while at < len(content):
            size = min(self.random.choice((1, 2, 9, 10, 16, 255, 5000)), len(content) - at)
            digits = self.random.choice((b"%x", b"%X", b"0%x", b"000%X")) % size
            body += digits + b"\r\n" + content[at:at + size] + b"\r\n"
            at += size
        return body + self.random.choice((b"0", b"0", b"00")) + b"\r\n\r\n"

    def valid(self):
        """A request that everybody has to take."""
        request = self.plain()
        request.method = self.random.choice((b"GET", b"GET", b"POST", b"POST", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH"))
        for name, value in ((b"Accept", b"*/*"), (b"User-Agent", b"fronts/1 (a test)"), (b"Cookie", b"a=b; c=\"d\""), (b"X-Empty", b"")):
            if self.random.random() < 0.2:
                request.add(name, value, self.random.choice((b": ", b":", b": \t", b":  ")))
        if request.method in (b"POST", b"PUT", b"PATCH") or self.random.random() < 0.15 and request.method != b"HEAD":
            request.content = self.content()
            if self.random.random() < 0.5:
                request.add(b"Content-Length", b"%d" % len(request.content))
                request.body = request.content
            else:
                request.add(b"Transfer-Encoding", self.random.choice((b"chunked", b"chunked", b"Chunked")))
                request.body = self.chunks(request.content)
        self.random.shuffle(request.fields)
        return request

    def with_body(self):
        """A request to bend: with a body in whose framing much can go wrong."""
        request = self.valid()
        while not request.body:
            request = self.valid()
        return request


# ---- how requests are bent ------------------------------------------------------------------------------------------------------------

BENDS = {}


def bend(function):
    BENDS[function.__name__] = function
    return function


def _length(maker, request):
    """The Content-Length field, in place of whatever framing there is."""
    found = request.find(b"content-length")
    if found:
        return found[0]
    request.fields = [field for field in request.fields if field[0].lower() != b"transfer-encoding"]
    request.content = request.content or maker.content()
    request.body = request.content
    request.add(b"Content-Length", b"%d" % len(request.body))
    return request.fields[-1]


def _coding(maker, request):
    """The Transfer-Encoding field, in place of whatever framing there is."""
    found = request.find(b"transfer-encoding")
    if found:
        return found[0]
    request.fields = [field for field in request.fields if field[0].lower() != b"content-length"]
    request.content = request.content or maker.content()
    request.body = maker.chunks(request.content)
    request.add(b"Transfer-Encoding", b"chunked")
    return request.fields[-1]


def _framing(maker, request):
    return maker.random.choice((_length, _coding))(maker, request)


def _any_field(maker, request):
    return maker.random.choice(request.fields) if maker.random.random() < 0.4 and request.fields else _framing(maker, request)


@bend
def two_lengths(maker, request):
    _length(maker, request)
    length = len(request.content)
    other = maker.random.choice((0, length, length + 1, max(length - 1, 0), 5))
    request.fields.insert(maker.random.randrange(len(request.fields) + 1), [b"Content-Length", b": ", b"%d" % other, b"\r\n"])


@bend
def listed_length(maker, request):
    field = _length(maker, request)
    field[2] = maker.random.choice((b"%b, %b", b"%b,%b", b"0, %b%.0b", b"%b,%.0b", b",%b%.0b", b"%b, 0%.0b")) % (field[2], field[2])


@bend
def odd_length(maker, request):
    field = _length(maker, request)
    shapes = (b"+%b", b"-%b", b"0%b", b"00000000000000000000%b", b"0x%b", b"%b ", b"\t%b", b"%b.0", b"%be0", b"%b;", b"%b_0", b"\"%b\"",
              b" %b\x0b", b"%b a", b"1 %b", b"\x0c%b", b"\xa0%b", b"%b\xb2")
    field[2] = maker.random.choice(shapes) % field[2]


@bend
def no_length(maker, request):
    _length(maker, request)[2] = maker.random.choice((b"", b" ", b"a", b"0x", b"-", b"null", b"-1", b"\x00"))


@bend
def huge_length(maker, request):
    numbers = (1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, (1 << 64) + len(request.content), 10 ** 30)
    _length(maker, request)[2] = b"%d" % maker.random.choice(numbers)


@bend
def wrong_length(maker, request):
    field = _length(maker, request)
    field[2] = b"%d" % max(len(request.content) + maker.random.choice((-5, -1, 1, 2, 40)), 0)


@bend
def length_beside_coding(maker, request):
    field = _coding(maker, request)
    length = maker.random.choice((0, 4, 5, len(request.body), len(request.content)))
    place = request.fields.index(field) + maker.random.randrange(2)
    request.fields.insert(place, [b"Content-Length", b": ", b"%d" % length, b"\r\n"])


@bend
def odd_coding(maker, request):
    values = (b"xchunked", b"chunkedx", b"chunked, chunked", b"identity", b"identity, chunked", b"chunked, identity", b"gzip, chunked",
              b"chunked;q=1", b"\"chunked\"", b"'chunked'", b"chunked,", b",chunked", b"chunked ,", b"\x0bchunked", b"chunked\x0c",
              b"\tchunked", b"chunked\x00", b"chun\x00ked", b"chunk", b"", b"chunked\xa0", b"cow", b"CHUNKED", b"chunked foo", b"deflate",
              b"chunKed", b"chun\xe2\x84\xaaed")
    _coding(maker, request)[2] = maker.random.choice(values)


@bend
def two_codings(maker, request):
    field = _coding(maker, request)
    other = maker.random.choice((b"chunked", b"identity", b"gzip", b"", b"x"))
    request.fields.insert(request.fields.index(field) + maker.random.randrange(2), [b"Transfer-Encoding", b": ", other, b"\r\n"])


@bend
def odd_name(maker, request):
    field = _any_field(maker, request)
    shapes = (b" %b", b"\t%b", b"%b ", b"%b\t", b"x%b", b"%b\x00", b"\x00%b", b"%b\x0b", b"%b\r", b"\r%b", b"%b(", b"%b:", b"\"%b\"",
              b"%b\x7f", b"%b\xff", b"\xef\xbb\xbf%b", b"%b\xc2\xa0")
    field[0] = maker.random.choice(shapes) % field[0]


@bend
def renamed(maker, request):
    field = _framing(maker, request)
    field[0] = maker.random.choice((field[0].replace(b"-", b"_"), field[0].replace(b"-", b" "), field[0].replace(b"-", b""), field[0].upper(),
                                    field[0].lower(), field[0].replace(b"n", b"\xc5\x84"), field[0][:-1]))


@bend
def odd_separator(maker, request):
    separators = (b" : ", b" :", b"\t:", b":", b":\t", b"", b" ", b"=", b"::", b":\x00", b":\x0b", b":\r", b":\r\n ", b":\n ", b"\x00:",
                  b"\r:", b": \r\n\t")
    _any_field(maker, request)[1] = maker.random.choice(separators)


@bend
def odd_line_end(maker, request):
    ends = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\x00\r\n", b"\n\n", b"\r\n\t", b" \r\n", b"\x0b\r\n", b"\xe5\x98\x8a\r\n", b"")
    if maker.random.random() < 0.25:
        request.gaps = (*request.gaps[:2], maker.random.choice(ends))
    else:
        _any_field(maker, request)[3] = maker.random.choice(ends)


@bend
def every_line_end(maker, request):
    end = maker.random.choice((b"\n", b"\r", b"\r\r\n"))
    for field in request.fields:
        field[3] = end
    request.gaps = (*request.gaps[:2], end)
    request.blank = maker.random.choice((end, b"\r\n"))


@bend
def odd_blank_line(maker, request):
    request.blank = maker.random.choice((b"\n", b"\r", b" \r\n", b"\r\r\n", b"\x00\r\n", b"\t\r\n\r\n", b"\n\r\n", b""))


@bend
def folded(maker, request):
    field = _any_field(maker, request)
    values = (field[2] + b"\r\n ", b"\r\n " + field[2], field[2] + b"\r\n\t0", field[2][:1] + b"\r\n " + field[2][1:], field[2] + b"\n x",
              b"x\r\n " + field[2], field[2] + b"\r\n \r\n ")
    field[2] = maker.random.choice(values)


@bend
def framing_behind_a_fold(maker, request):
    field = _framing(maker, request)
    request.fields.remove(field)
    place = maker.random.randrange(len(request.fields) + 1)
    request.fields.insert(place, [b"X-Folded", b":", b" a\r\n " + b"".join(field[:3]), b"\r\n"])


@bend
def framing_inside_a_value(maker, request):
    field = _framing(maker, request)
    request.fields.remove(field)
    request.add(b"X-Inside", b"a" + maker.random.choice((b"\n", b"\r", b"\r\r\n", b"\x00\r\n", b"\xc4\x8a", b"\x85")) + b"".join(field[:3]))


@bend
def control_in_value(maker, request):
    field = _any_field(maker, request)
    at = maker.random.randrange(len(field[2]) + 1)
    field[2] = field[2][:at] + maker.random.choice((b"\x00", b"\x01", b"\r", b"\x0b", b"\x0c", b"\x1b", b"\x7f", b"\x80", b"\xff")) + field[2][at:]


@bend
def odd_chunk_size(maker, request):
    _coding(maker, request)
    size, line_end, rest = request.body.partition(b"\r\n")
    shapes = (b"+%b", b"-%b", b"0x%b", b" %b", b"%b ", b"\t%b", b"%b\t", b"0000000000000000000%b", b"%bg", b"%b.0", b"%b\x00", b"%b_",
              b"0X%b", b"%b,", b"\x0b%b", b"10000000000000000%b", b"\xef\xbb\xbf%b", b"")
    shape = maker.random.choice(shapes)
    request.body = (shape % size if shape else shape) + line_end + rest


@bend
def huge_chunk_size(maker, request):
    _coding(maker, request)
    _, line_end, rest = request.body.partition(b"\r\n")
    sizes = (b"ffffffffffffffff", b"7fffffffffffffff", b"8000000000000000", b"fffffffffffffffe", b"100000000", b"80000000", b"ffffffff0")
    request.body = maker.random.choice(sizes) + line_end + rest


@bend
def chunk_extension(maker, request):
    _coding(maker, request)
    size, line_end, rest = request.body.partition(b"\r\n")
    extensions = (b";a=b", b";", b";a", b" ;a=b", b"; a=\"b\"", b";a=\"\r\n0\r\n\r\n\"", b";\n", b";a\nb", b";a\rb", b";\x00",
                  b";" + b"a" * 300, b";a=b\r", b"\x0b;", b" a", b";\nxx")
    request.body = size + maker.random.choice(extensions) + line_end + rest


@bend
def odd_chunk_line_end(maker, request):
    _coding(maker, request)
    size, _, rest = request.body.partition(b"\r\n")
    request.body = size + maker.random.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n\r\n", b"\rX")) + rest


@bend
def odd_chunk_end(maker, request):
    _coding(maker, request)
    end = maker.random.choice((b"\n", b"\r", b"", b"XX", b"\r\r\n", b"\n\n", b"\r\n\r\n", b"X\r\n", b"\rX", b"\r\n "))
    content = request.content or b"abc"
    request.body = b"%x\r\n" % len(content) + content + end + b"0\r\n\r\n"


@bend
def odd_last_chunk(maker, request):
    _coding(maker, request)
    ends = (b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"0\r\r", b"0\r\n", b"0", b"", b"-0\r\n\r\n", b"0x0\r\n\r\n", b"0 \r\n\r\n", b"0;a=b\r\n\r\n",
            b"00000000000000000\r\n\r\n", b"0\r\n\r", b"0\r\nX", b"\r\n\r\n", b"0_0\r\n\r\n")
    request.body = request.body.removesuffix(b"\r\n\r\n").rstrip(b"0") + maker.random.choice(ends)


@bend
def trailer(maker, request):
    _coding(maker, request)
    trailers = (b"X-Trailer: a\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: other.test\r\n", b"X-A : b\r\n",
                b" folded\r\n", b"X-A: b\n", b"X-A: b\r", b"no colon\r\n", b": nothing\r\n", b"X-A: \x00\r\n", b"Connection: close\r\n",
                b"X-Long: " + b"a" * 9000 + b"\r\n", b"GET / HTTP/1.1\r\n", b"Trailer: Host\r\n", b"X-A: b\r\n c\r\n")
    request.body = request.body[:-2] + maker.random.choice(trailers) + maker.random.choice((b"", b"X-B: c\r\n")) + b"\r\n"


@bend
def odd_target(maker, request):
    shapes = (b"http://example.test%b", b"http://other.test%b", b"http://example.test:80%b", b"HTTP://EXAMPLE.TEST%b",
              b"http://user@example.test%b", b"https://example.test%b", b"http:%b", b"//other.test%b", b"http://%b", b"%b#fragment",
              b"%b?a=b c", b"%b\x00", b"%b\t", b"%b%%00", b"%b%%", b"%b%%0d%%0a", b"%b\xff", b"%b?\"<>", b"*%.0b", b"%b;a=b", b"/..%b",
              b"%b/../x", b"/.%b", b"/%b", b"x%b", b"?a%.0b", b"%b HTTP/1.1", b"%b\\", b"http://[::1]%b", b"ftp://example.test%b",
              b"example.test:80%.0b", b"%b\r", b"/" + b"a" * 9000 + b"%b", b"\\%b", b"%b%%2f..%%2f")
    request.target = maker.random.choice(shapes) % request.target


@bend
def odd_host(maker, request):
    for field in request.find(b"host"):
        values = (b"", b"example.test:80", b"example.test:", b"other.test", b"a b", b"example.test, other.test", b"example.test/x",
                  b"user@example.test", b"[::1]", b"[::1", b"example.test:port", b"example.test:99999", b"\"example.test\"",
                  b"example.test#", b"example.test?a", b"exa\x00mple.test", b"a\tb", b"EXAMPLE.TEST", b"http://example.test",
                  b"ex\xc3\xa4mple.test", b"example.test\\", b"127.0.0.1:1")
        field[2] = maker.random.choice(values)


@bend
def hosts(maker, request):
    if maker.random.random() < 0.5:
        host = maker.random.choice((HOST, b"other.test", b""))
        request.fields.insert(maker.random.randrange(len(request.fields) + 1), [b"Host", b": ", host, b"\r\n"])
    else:
        request.fields = [field for field in request.fields if field[0].lower() != b"host"]


@bend
def odd_version(maker, request):
    versions = (b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1",
                b"http/1.1", b"HTTP/1.1 ", b"HTTP/1,1", b"HTTP/ 1.1", b"", b"HTTP/1.1\t", b"HTTP/1.1 x", b"HTTPS/1.1", b"HTTP/11",
                b"HTTP/3", b"HTTP/1.1\x00", b"ICY/1.1")
    request.version = maker.random.choice(versions)


@bend
def coding_on_http_1_0(maker, request):
    _coding(maker, request)
    request.version = b"HTTP/1.0"
    if maker.random.random() < 0.5:
        request.add(b"Connection", b"keep-alive")


@bend
def keep_alive_on_http_1_0(maker, request):
    _length(maker, request)
    request.version = b"HTTP/1.0"
    request.add(b"Connection", maker.random.choice((b"keep-alive", b"Keep-Alive", b"close, keep-alive")))


@bend
def odd_method(maker, request):
    methods = (b"get", b"G ET", b"GET\x00", b"", b"TRACE", b"CONNECT", b"PRI", b"PURGE", b"G(T", b"\rGET", b"\x00GET", b"GET\t", b"X" * 100,
               b"PROPFIND", b"M-SEARCH", b"_", b"HEAD", b"DELETE", b"OPTIONS", b"QUERY", b"\xffGET", b"X" * 9000)
    request.method = maker.random.choice(methods)


@bend
def method_with_body(maker, request):
    _framing(maker, request)
    request.method = maker.random.choice((b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"))


@bend
def odd_gap(maker, request):
    gap = maker.random.choice((b"  ", b"\t", b"\x0b", b"\x0c", b"\r", b"", b"\x00", b" \t ", b"\xa0"))
    request.gaps = (gap, *request.gaps[1:]) if maker.random.random() < 0.5 else (request.gaps[0], gap, request.gaps[2])


@bend
def bytes_before(maker, request):
    before = (b"\r\n", b"\n", b"\r\n\r\n", b"\r", b" ", b"\x00", b"\r\n" * 20, b"X\r\n", b"\t\r\n", b"\xef\xbb\xbf", b"\n\n", b"\x16\x03\x01")
    request.before = maker.random.choice(before)


@bend
def expectation(maker, request):
    _framing(maker, request)
    values = (b"100-continue", b"100-Continue", b"100-continue, 100-continue", b"200-ok", b"", b"100-continue ", b"x-unknown", b"100",
              b"100-continue;a=b")
    request.add(b"Expect", maker.random.choice(values))


@bend
def connection_names_framing(maker, request):
    _framing(maker, request)
    values = (b"Content-Length", b"Transfer-Encoding", b"close, Content-Length", b"Host", b"keep-alive, Transfer-Encoding",
              b"X-Empty", b"close", b"Connection", b"TE, close", b"upgrade", b"close, keep-alive", b",,close", b"clos\x00e",
              b"Keep-Alive", b"Expect, Content-Length")
    request.add(b"Connection", maker.random.choice(values))


@bend
def upgrade(maker, request):
    values = (b"websocket", b"h2c", b"HTTP/2.0", b"TLS/1.0", b"x", b"h2c, websocket", b"")
    request.add(b"Upgrade", maker.random.choice(values))
    request.add(b"Connection", maker.random.choice((b"Upgrade", b"upgrade, HTTP2-Settings", b"keep-alive, Upgrade", b"close")))
    if maker.random.random() < 0.5:
        request.add(b"HTTP2-Settings", b"AAMAAABkAARAAAAAAAIAAAAA")
        request.add(b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")
        request.add(b"Sec-WebSocket-Version", b"13")


@bend
def many_fields(maker, request):
    count = maker.random.choice((50, 99, 100, 101, 150))
    request.fields[0:0] = [[b"X-%d" % number, b": ", b"a", b"\r\n"] for number in range(count)]


@bend
def long_field(maker, request):
    request.fields.insert(0, [b"X-Long", b": ", b"a" * maker.random.choice((4000, 8000, 8170, 8192, 9000, 17000)), b"\r\n"])


@bend
def odd_line(maker, request):
    lines = (b"no colon here\r\n", b": no name\r\n", b"\x00\r\n", b"GET /other HTTP/1.1\r\n", b"Content-Length\r\n",
             b"Transfer-Encoding\r\n", b"(comment): a\r\n", b"X y: z\r\n", b"Content-Length 5: 0\r\n",
             b"\x0bTransfer-Encoding: chunked\r\n", b"Content-Length: 0\rTransfer-Encoding: chunked\r\n",
             b"Transfer-Encoding: chunked\nX: y\r\n")
    request.fields.insert(maker.random.randrange(len(request.fields) + 1), [maker.random.choice(lines), b"", b"", b""])


@bend
def any_byte(maker, request):
    """One byte of the whole exchanged, doubled or taken out: what no grammar thinks of."""
    data = bytearray(bytes(request))
    at = maker.random.randrange(min(len(data), 400))
    for target in TARGET.finditer(data):
        # The numbers stay as they are: the judge goes by them.
        if target.start() <= at <= target.end():
            at = min(target.end() + 1, len(data) - 1)
    choice = maker.random.randrange(3)
    if choice == 0:
        data[at] = maker.random.choice(b"\x00\t\n\r :;,0aA\x7f\xff")
    elif choice == 1:
        data.insert(at, data[at])
    else:
        del data[at]
    request.before, request.method, request.gaps, request.target, request.version = b"", b"", (b"", b"", b""), b"", b""
    request.fields, request.blank, request.body = [], b"", bytes(data)


# ---- streams --------------------------------------------------------------------------------------------------------------------------

VALID_SHARE = 0.25


def _cut(maker, data):
    """The bytes in the pieces that they are sent in."""
    if maker.random.random() < 0.5 or len(data) < 2:
        return [data]
    if maker.random.random() < 0.2:
        data_head = data[:120]
        return [bytes([byte]) for byte in data_head] + ([data[120:]] if len(data) > 120 else [])
    cuts = sorted({0, *(maker.random.randrange(1, len(data)) for _ in range(maker.random.choice((1, 1, 2, 5))))})
    return [data[begin:end] for begin, end in zip(cuts, [*cuts[1:], len(data)])]


def make(seed, index):
    """The stream with that number, always the same for a seed."""
    maker = _Maker(seed, index)
    valid = maker.random.random() < VALID_SHARE
    requests, expected, bent = [], [], []
    count = maker.random.choice((1, 2, 3, 3, 4))
    bent_at = {maker.random.randrange(count), maker.random.randrange(count)} if maker.random.random() < 0.2 else {maker.random.randrange(count)}
    for place in range(count):
        if valid or place not in bent_at:
            request = maker.valid()
            number = int(TARGET.search(request.target)[3])
            expected.append(Expected(number, request.method, len(request.content), request.content))
        else:
            request = maker.with_body() if maker.random.random() < 0.8 else maker.valid()
            for _ in range(maker.random.choice((1, 1, 1, 2, 2, 3))):
                name = maker.random.choice(list(BENDS))
                BENDS[name](maker, request)
                bent.append(name)
                if name == "any_byte":
                    break
        requests.append(request)
    data = b"".join(bytes(request) for request in requests)
    fin = not valid and maker.random.random() < 0.1
    if fin and maker.random.random() < 0.6:
        data = data[:maker.random.randrange(1, len(data) + 1)]
        bent.append("cut_off")
    follow = maker.plain()
    if maker.random.random() < 0.5:
        follow.add(b"Connection", b"close")
    expected.append(Expected(maker.number, b"GET", 0, b""))
    pieces = _cut(maker, data)
    follow_up = bytes(follow)
    if not fin and maker.random.random() < 0.6:
        # In one piece with the last bytes of what was before it.
        pieces[-1] += follow_up
        follow_up = b""
    return Stream(index, pieces, b"" if fin else follow_up, fin, maker.number, expected if valid else None, bent)
