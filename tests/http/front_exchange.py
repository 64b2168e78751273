"""What flows through a front, recorded: clients that send streams to it, and a relay between it and its back. One thread, one loop."""

import bisect
import heapq
import itertools
import selectors
import socket
import time

import front_messages as messages

# A client that waits for an answer to what is no whole request, for its front at least, gives up after this.
QUIET_SECONDS = 0.2
# And with valid requests after this, on the busiest machine.
VALID_SECONDS = 60
# Between two pieces, so that they arrive as two.
PIECE_SECONDS = 0.001
RECEIVE_BYTES = 65536


class Loop:
    def __init__(self):
        self._selector = selectors.DefaultSelector()
        self._timers = []
        self._order = itertools.count()
        # Events so far: what came before what, over all connections.
        self.tick = 0

    def watch(self, endpoint, events, function):
        """Calls the function when one of the events is there; 0 for no events, None for never again."""
        known = endpoint in self._selector.get_map()
        if events and known:
            self._selector.modify(endpoint, events, function)
        elif events:
            self._selector.register(endpoint, events, function)
        elif known:
            self._selector.unregister(endpoint)

    def after(self, seconds, function):
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), function))

    def run(self, done, seconds=None):
        """Until `done()`; false when that took longer than the time given."""
        until = None if seconds is None else time.monotonic() + seconds
        while not done():
            now = time.monotonic()
            if until is not None and now > until:
                return False
            wait = 0.05
            if self._timers:
                wait = min(wait, max(self._timers[0][0] - now, 0))
            for key, events in self._selector.select(wait):
                # One function may have ended the endpoint of another.
                if self._selector.get_map().get(key.fd) is key:
                    self.tick += 1
                    key.data(events)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
        return True

    def close(self):
        self._selector.close()


class _Side:
    """One end of a relayed connection: its socket, what still has to go out there, whether it has ended."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.waiting = bytearray()
        self.ended = False
        self.finish = False
        self.broken = False
        endpoint.setblocking(False)
        endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Relayed:
    """A connection of a front to its back: all bytes of both directions, and when they came."""

    def __init__(self, loop, front, back):
        self._loop = loop
        self._front, self._back = _Side(front), _Side(back)
        self.to_back, self.from_back = bytearray(), bytearray()
        self._arrivals = []
        # Which side ended first, when both have.
        self.front_ended = self.back_ended = None
        self._update()

    def arrived(self, size):
        """When that many bytes had come from the back."""
        place = bisect.bisect_left(self._arrivals, (size, 0))
        return self._arrivals[min(place, len(self._arrivals) - 1)][1]

    def _update(self):
        for side, other in ((self._front, self._back), (self._back, self._front)):
            events = 0 if side.ended else selectors.EVENT_READ
            if side.waiting and not side.broken:
                events |= selectors.EVENT_WRITE
            if side.endpoint.fileno() >= 0:
                self._loop.watch(side.endpoint, events, lambda events, side=side, other=other: self._ready(events, side, other))
        if self._front.ended and self._back.ended and not (self._front.waiting or self._back.waiting):
            self.close()

    def _ready(self, events, side, other):
        if events & selectors.EVENT_READ and not side.ended:
            try:
                received = side.endpoint.recv(RECEIVE_BYTES)
            except BlockingIOError:
                received = None
            except OSError:
                received = b""
                side.broken = True
                side.waiting.clear()
            if received:
                self._record(side, received)
                other.waiting += b"" if other.broken else received
            elif received is not None:
                side.ended = True
                if side is self._front:
                    self.front_ended = self._loop.tick
                else:
                    self.back_ended = self._loop.tick
                other.finish = True
        for each in (side, other):
            self._send(each)
        self._update()

    def _record(self, side, received):
        if side is self._front:
            self.to_back += received
        else:
            self.from_back += received
            self._arrivals.append((len(self.from_back), self._loop.tick))

    @staticmethod
    def _send(side):
        try:
            while side.waiting and not side.broken:
                del side.waiting[:side.endpoint.send(side.waiting)]
            if side.finish and not side.broken:
                side.finish = False
                side.endpoint.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            side.broken = True
            side.waiting.clear()

    def close(self):
        for side in (self._front, self._back):
            if side.endpoint.fileno() >= 0:
                self._loop.watch(side.endpoint, 0, None)
                side.endpoint.close()


class Relay:
    """Listens in a back's place."""

    def __init__(self, loop, back):
        self._loop, self._back = loop, back
        self.connections = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()
        loop.watch(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self, _):
        try:
            front, _ = self._listener.accept()
        except OSError:
            return
        self.connections.append(Relayed(self._loop, front, socket.create_connection(self._back, VALID_SECONDS)))

    def close(self):
        self._loop.watch(self._listener, 0, None)
        self._listener.close()
        for connection in self.connections:
            connection.close()


class Client:
    """Sends a stream to a door, from an address of its own, and keeps what comes back."""

    def __init__(self, loop, door, stream, address, done):
        self.stream, self.address = stream, address
        self.received = bytearray()
        self.responses = []
        # What came is no response any more.
        self.garbled = None
        # It ended for want of an answer, not because all had come or the front had closed.
        self.gave_up = False
        self._loop, self._done = loop, done
        self._parsed = 0
        self._pieces = list(stream.pieces)
        self._waiting = b""
        self._follow_up = stream.follow_up
        self._finished = self._fin_sent = False
        self._active = time.monotonic()
        self._endpoint = socket.socket()
        self._endpoint.bind((address, 0))
        self._endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._endpoint.connect(door)
        self._endpoint.setblocking(False)
        loop.watch(self._endpoint, selectors.EVENT_READ, self._ready)
        self._next_piece()
        self._look()

    def finals(self):
        return [response for response in self.responses if response.status >= 200]

    def _next_piece(self):
        if self._finished:
            return
        self._active = time.monotonic()
        if not self._waiting and self._pieces:
            self._waiting = self._pieces.pop(0)
            self._send()
        if self._pieces:
            self._loop.after(PIECE_SECONDS, self._next_piece)
        elif self.stream.fin and not self._waiting:
            self._send_fin()

    def _send(self):
        try:
            while self._waiting:
                self._waiting = self._waiting[self._endpoint.send(self._waiting):]
        except BlockingIOError:
            pass
        except OSError:
            # The front is done with it; what it has said is still to be read.
            self._waiting, self._pieces, self._follow_up = b"", [], b""
        self._loop.watch(self._endpoint, selectors.EVENT_READ | (selectors.EVENT_WRITE if self._waiting else 0), self._ready)

    def _send_fin(self):
        if not self._fin_sent:
            self._fin_sent = True
            try:
                self._endpoint.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def _ready(self, events):
        self._active = time.monotonic()
        if events & selectors.EVENT_WRITE:
            self._send()
        if not events & selectors.EVENT_READ:
            return
        try:
            received = self._endpoint.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        self.received += received
        self._parse(ended=not received)
        if not received or self._has_all():
            self._finish()
        elif self.stream.expected is not None and self._follow_up and len(self.finals()) >= len(self.stream.expected) - 1:
            self._send_follow_up()

    def _parse(self, ended):
        while self.garbled is None and self._parsed < len(self.received):
            try:
                response = messages.take_response(self.received, self._parsed, ended)
            except messages.Incomplete:
                return
            except messages.Refused as refusal:
                self.garbled = str(refusal)
                return
            self._parsed = response.end
            self.responses.append(response)

    def _has_all(self):
        """Whether the follow-up, which is the last request, has been answered; by the back, or for a valid stream by anybody."""
        finals = self.finals()
        if self.stream.expected is not None:
            return len(finals) >= len(self.stream.expected)
        last = b"/s%d/r%d" % (self.stream.index, self.stream.last)
        return any(messages.value_of(response.fields, b"x-target") == last for response in finals[-1:])

    def _send_follow_up(self):
        self._waiting, self._follow_up = self._waiting + self._follow_up, b""
        self._send()

    def _look(self):
        """Every now and then: whether there is still something to wait for."""
        if self._finished:
            return
        quiet = QUIET_SECONDS if self.stream.expected is None else VALID_SECONDS
        if time.monotonic() - self._active > quiet and not self._pieces:
            self._active = time.monotonic()
            if self._follow_up:
                self._send_follow_up()
            elif not self._fin_sent:
                self._send_fin()
            else:
                self.gave_up = True
                self._finish()
                return
        self._loop.after(QUIET_SECONDS / 3, self._look)

    def _finish(self):
        self._finished = True
        self._loop.watch(self._endpoint, 0, None)
        self._endpoint.close()
        self._done(self)
