"""HTTP/1.1 messages as the rules of RFC 9112 have them, read from bytes; and, by name, the leniencies that others are known for.

A parser of its own, beside that of the library: what passes between a front and a back is judged by it.
"""

import collections
import re
import zlib

LINE_MAX = 8192
HEAD_MAX = 65536
TRAILERS_MAX = 16384
FIELDS_MAX = 100
LENGTH_MAX = (1 << 63) - 1

# What a careless reader may do, and this one does only when told to.
LENIENCIES = {
    "bare-lf": "a line may end with LF alone",
    "obs-fold": "a line that begins with white space continues the one before",
    "space-before-colon": "white space between a field's name and its colon",
    "first-length": "the first of several Content-Length counts",
    "last-length": "the last of several Content-Length counts",
    "loose-length": "a sign, white space and underscores in a Content-Length, as int() takes them",
    "length-and-coding": "Transfer-Encoding beside a Content-Length wins",
    "length-over-coding": "Content-Length beside a Transfer-Encoding wins",
    "coding-on-1.0": "Transfer-Encoding means nothing on HTTP/1.0",
    "loose-coding": "a Transfer-Encoding that has `chunked` in it anywhere",
    "unknown-coding": "a Transfer-Encoding that is not understood means nothing",
    "chunk-extensions": "chunk extensions are passed over",
    "chunk-end": "chunk data ends without a look at what stands where its CRLF should be",
    "loose-chunk-size": "a sign, 0x, white space and underscores in a chunk's size, as int() takes them",
    "control-characters": "control characters in a field's value",
    "loose-request-line": "any white space between the parts of a request line, any bytes in a target",
    "any-host": "Host missing, doubled, or with anything in it",
    "no-body-of-get": "GET, HEAD and DELETE have no body, whatever their fields say",
}

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD_NAME = re.compile(_TOKEN + rb"\Z")
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/(\d)\.(\d)\Z")
_LOOSE_REQUEST_LINE = re.compile(rb"\s*(\S+)\s+(.*?)\s+HTTP/(\d)\.(\d)\s*\Z", re.DOTALL)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: .*)?\Z")
_AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::\d*)?\Z")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

Request = collections.namedtuple("Request", "method target version fields body keep_alive head_end end")
Response = collections.namedtuple("Response", "status fields body end")


class Refused(Exception):
    """What came is no message; `status` is what to answer."""

    def __init__(self, why, status=400):
        super().__init__(why)
        self.status = status


class Incomplete(Exception):
    """More has to come. `expects_continue`: the peer may wait for 100 before it sends that."""

    def __init__(self, expects_continue=False):
        super().__init__("more has to come")
        self.expects_continue = expects_continue


def checksum(body):
    """What stands for a body in an answer: CRC-32, eight hexadecimal digits."""
    return b"%08x" % zlib.crc32(body)


def value_of(fields, name):
    """The value of the only field of that name, None when there is none or more than one."""
    values = values_of(fields, name)
    return values[0] if len(values) == 1 else None


def values_of(fields, name):
    return [value for key, value in fields if key == name]


def _take_line(data, at, lenient, limit=LINE_MAX):
    """A line without its end, and where the next one begins."""
    end = data.find(b"\n", at)
    if end < 0:
        if len(data) - at > limit:
            raise Refused("a line that is too long", 431)
        if "bare-lf" not in lenient and b"\r" in data[at:-1]:
            raise Refused("CR without LF")
        raise Incomplete
    line = bytes(data[at:end])
    if line.endswith(b"\r"):
        line = line[:-1]
    elif "bare-lf" not in lenient:
        raise Refused("LF without CR")
    if b"\r" in line and "control-characters" not in lenient:
        raise Refused("CR without LF")
    if len(line) > limit:
        raise Refused("a line that is too long", 431)
    return line, end + 1


def _take_fields(data, at, lenient, limit):
    """The fields up to the blank line behind them, names in lower case, and where what follows begins."""
    fields, begin = [], at
    while True:
        line, at = _take_line(data, at, lenient)
        if at - begin > limit:
            raise Refused("fields that are too long", 431)
        if not line:
            return fields, at
        if line[0] in b" \t":
            if "obs-fold" not in lenient or not fields:
                raise Refused("a folded line")
            fields[-1] = (fields[-1][0], (fields[-1][1] + b" " + line.strip(b" \t")).strip(b" \t"))
            continue
        name, colon, value = line.partition(b":")
        if "space-before-colon" in lenient:
            name = name.strip(b" \t")
        if not colon or not _FIELD_NAME.match(name):
            raise Refused("a field without a name that is a token")
        value = value.strip(b" \t")
        if _CONTROL.search(value) and "control-characters" not in lenient:
            raise Refused("a control character in a field's value")
        fields.append((name.lower(), value))
        if len(fields) > FIELDS_MAX:
            raise Refused("too many fields", 431)


def _check_target(method, target, fields, version):
    """RFC 9112 3.2, RFC 9110 7.2."""
    hosts = values_of(fields, b"host")
    if len(hosts) > 1 or (version == (1, 1) and not hosts):
        raise Refused("Host has to be there once")
    if hosts and not _AUTHORITY.match(hosts[0]):
        raise Refused("a Host that is no host")
    if b"#" in target:
        raise Refused("a fragment in a target")
    if method == b"CONNECT":
        if not _AUTHORITY.match(target) or b":" not in target:
            raise Refused("CONNECT needs a host and a port")
    elif target == b"*":
        if method != b"OPTIONS":
            raise Refused("* is only for OPTIONS")
    elif not target.startswith(b"/"):
        absolute = re.match(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)", target)
        if not absolute or not absolute[2] or not _AUTHORITY.match(absolute[2]):
            raise Refused("a target of no form")
        port = {b"http": b":80", b"https": b":443"}.get(absolute[1].lower(), b":")
        if hosts and len({authority.lower().removesuffix(b":").removesuffix(port) for authority in (hosts[0], absolute[2])}) > 1:
            raise Refused("a target that disagrees with Host")


def _length_of(fields, lenient):
    """What Content-Length says; None without one."""
    values = values_of(fields, b"content-length")
    if not values:
        return None
    if len(values) > 1 or b"," in values[0]:
        parts = [part.strip(b" \t") for value in values for part in value.split(b",")]
        if "first-length" in lenient:
            values = parts[:1]
        elif "last-length" in lenient:
            values = parts[-1:]
        else:
            raise Refused("more than one Content-Length")
    if "loose-length" in lenient:
        length = _loose_number(values[0], 10)
    elif re.fullmatch(rb"[0-9]+", values[0]):
        length = int(values[0][-4000:])
        if len(values[0].lstrip(b"0")) > 19:
            raise Refused("a Content-Length that is too large")
    else:
        raise Refused("a Content-Length that is no number")
    if length > LENGTH_MAX:
        raise Refused("a Content-Length that is too large")
    return length


def _loose_number(text, base):
    try:
        return abs(int(text[:4000].decode("latin-1"), base))
    except ValueError as error:
        raise Refused("a number that is none") from error


def _is_chunked(fields, version, has_length, lenient):
    codings = [value.lower() for value in values_of(fields, b"transfer-encoding")]
    if not codings or (version == (1, 0) and "coding-on-1.0" in lenient):
        return False
    if version == (1, 0):
        raise Refused("Transfer-Encoding on HTTP/1.0")
    if has_length:
        if "length-over-coding" in lenient:
            return False
        if "length-and-coding" not in lenient:
            raise Refused("Transfer-Encoding beside Content-Length")
    if codings == [b"chunked"] or ("loose-coding" in lenient and any(b"chunked" in coding for coding in codings)):
        return True
    if "unknown-coding" in lenient:
        return False
    raise Refused("a Transfer-Encoding that is not `chunked`", 501)


def _take_chunked(data, at, lenient):
    """The body, and where what follows begins."""
    body = bytearray()
    while True:
        line, at = _take_line(data, at, lenient)
        if "chunk-extensions" in lenient:
            line = line.partition(b";")[0].rstrip(b" \t")
        if re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
            size = int(line, 16)
        elif "loose-chunk-size" in lenient:
            size = _loose_number(line.partition(b";")[0], 16)
        else:
            raise Refused("a chunk's size that is no number")
        if size == 0:
            _, at = _take_fields(data, at, lenient, TRAILERS_MAX)
            return bytes(body), at
        if len(data) < at + size:
            raise Incomplete
        body += data[at:at + size]
        at += size
        if "chunk-end" in lenient:
            if len(data) < at + 2:
                raise Incomplete
            at += 2
            continue
        end = bytes(data[at:at + 2])
        if end == b"\r\n":
            at += 2
        elif "bare-lf" in lenient and end[:1] == b"\n":
            at += 1
        elif end and not b"\r\n".startswith(end):
            raise Refused("chunk data without its CRLF")
        else:
            raise Incomplete


def take_request(data, at=0, lenient=frozenset()):
    """The request that begins at `at`. Raises Incomplete or Refused."""
    begin = at
    line, at = _take_line(data, at, lenient)
    if not line:
        begin = at
        line, at = _take_line(data, at, lenient)
    found = (_LOOSE_REQUEST_LINE if "loose-request-line" in lenient else _REQUEST_LINE).match(line)
    if not found:
        raise Refused("a request line that is none")
    method, target, version = found[1], found[2], (int(found[3]), int(found[4]))
    if version not in ((1, 0), (1, 1)):
        raise Refused("another version", 505)
    fields, at = _take_fields(data, at, lenient, HEAD_MAX - (at - begin))
    if "any-host" not in lenient:
        _check_target(method, target, fields, version)
    expectations = values_of(fields, b"expect")
    if any(value.lower() != b"100-continue" for value in expectations) and "any-host" not in lenient:
        raise Refused("an expectation that is not known", 417)
    length = _length_of(fields, lenient)
    chunked = _is_chunked(fields, version, length is not None, lenient)
    if "no-body-of-get" in lenient and method in (b"GET", b"HEAD", b"DELETE"):
        length, chunked = 0, False
    head_end = at
    try:
        if chunked:
            body, at = _take_chunked(data, at, lenient)
        else:
            length = length or 0
            if len(data) < at + length:
                raise Incomplete
            body, at = bytes(data[at:at + length]), at + length
    except Incomplete as more:
        raise Incomplete(bool(expectations) and len(data) == head_end) from more
    options = [option.strip(b" \t").lower() for value in values_of(fields, b"connection") for option in value.split(b",")]
    keep_alive = b"close" not in options and (version == (1, 1) or b"keep-alive" in options)
    return Request(method, target, version, fields, body, keep_alive, head_end, at)


def take_requests(data, lenient=frozenset()):
    """All requests of a stream, by the rules, and how it ends: "complete", "incomplete" or the reason of a refusal."""
    found, at = [], 0
    while at < len(data):
        try:
            request = take_request(data, at, lenient)
        except Incomplete:
            return found, "incomplete"
        except Refused as refusal:
            return found, str(refusal)
        found.append(request)
        at = request.end
        if not request.keep_alive:
            break
    return found, "complete"


def take_response(data, at=0, ended=False):
    """The response that begins at `at`. One to HEAD says so in its X-Method, as the backs of these tests do; with a front's own answer to HEAD
    only what follows tells."""
    line, at = _take_line(data, at, frozenset())
    found = _STATUS_LINE.match(line)
    if not found:
        raise Refused(f"no status line: {line[:100]!r}")
    status = int(found[1])
    fields, at = _take_fields(data, at, frozenset(), HEAD_MAX)
    if status < 200 or status in (204, 304) or value_of(fields, b"x-method") == b"HEAD":
        return Response(status, fields, b"", at)
    if value_of(fields, b"x-method") is None and data[at:at + 7] == b"HTTP/1.":
        return Response(status, fields, b"", at)
    length = _length_of(fields, frozenset())
    if _is_chunked(fields, (1, 1), length is not None, frozenset()):
        body, at = _take_chunked(data, at, frozenset())
    elif length is not None:
        if len(data) < at + length:
            raise Incomplete
        body, at = bytes(data[at:at + length]), at + length
    elif ended:
        body, at = bytes(data[at:]), len(data)
    else:
        raise Incomplete
    return Response(status, fields, body, at)
