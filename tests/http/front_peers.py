"""Peers of fronts.py in Python: a back, and a front that looks at little and passes on heads as they came.

    front_peers.py back [leniency...]                  a strict back, or one that is as careless as it is told to be
    front_peers.py front PORT [leniency...]            such a front, before the back on that port of 127.0.0.1

Each prints the address that it listens on. An answer of a back has the request's target, its method and its last X-Forwarded-For in X-Target,
X-Method and X-Seen, and these with the length and the CRC-32 of the request's body in its own.
"""

import re
import socket
import sys
import threading

import front_messages as messages

TIMEOUT_SECONDS = 30


def header_text(value):
    """What may stand in a header, whatever a careless parser has let in."""
    return re.sub(rb"[^\t -~]", b"?", value)


def answer_to(request):
    seen = messages.values_of(request.fields, b"x-forwarded-for")
    values = [header_text(value) for value in (request.target, request.method, b", ".join(seen))]
    body = b"target=%b\nmethod=%b\nseen=%b\nlength=%d\ncrc=%b\n" % (*values, len(request.body), messages.checksum(request.body))
    head = b"HTTP/1.1 %b\r\nX-Target: %b\r\nX-Method: %b\r\nX-Seen: %b\r\nContent-Length: %d\r\n%b\r\n" % (
        b"405 Method Not Allowed" if request.method == b"CONNECT" else b"200 OK", *values, len(body),
        b"" if request.keep_alive else b"Connection: close\r\n")
    return head if request.method == b"HEAD" else head + body


def end(connection, data=b""):
    """Sends, then closes without a reset."""
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


def serve_back(connection, lenient):
    data, continued = bytearray(), False
    while True:
        try:
            request = messages.take_request(data, 0, lenient)
        except messages.Incomplete as more:
            if more.expects_continue and not continued:
                continued = True
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            received = connection.recv(65536)
            if not received:
                return
            data += received
            continue
        except messages.Refused as refusal:
            end(connection, b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % refusal.status)
            return
        del data[:request.end]
        continued = False
        connection.sendall(answer_to(request))
        if not request.keep_alive:
            end(connection)
            return


def serve_front(connection, port, lenient):
    tag = connection.getpeername()[0].encode()
    data, answers = bytearray(), bytearray()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as back:
        while True:
            try:
                request = messages.take_request(data, 0, lenient)
            except messages.Incomplete:
                received = connection.recv(65536)
                if not received:
                    return
                data += received
                continue
            except messages.Refused:
                end(connection, b"HTTP/1.1 400 Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            blank = request.head_end - (2 if data[:request.head_end].endswith(b"\r\n") else 1)
            back.sendall(data[:blank] + b"X-Forwarded-For: %b\r\n" % tag + data[blank:request.end])
            del data[:request.end]
            while True:
                try:
                    response = messages.take_response(answers)
                except messages.Incomplete:
                    received = back.recv(65536)
                    if not received:
                        end(connection, bytes(answers))
                        return
                    answers += received
                    continue
                connection.sendall(answers[:response.end])
                del answers[:response.end]
                if response.status >= 200:
                    break
            if not request.keep_alive or messages.value_of(response.fields, b"connection") == b"close":
                end(connection)
                return


def serve(connection, function, *arguments):
    with connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            function(connection, *arguments)
        except (OSError, messages.Refused):
            # The other end has gone, or has answered what is no answer: this connection is over.
            pass


def main(arguments):
    function, extra = (serve_back, []) if arguments[0] == "back" else (serve_front, [int(arguments[1])])
    lenient = frozenset(arguments[1 + len(extra):])
    unknown = lenient - set(messages.LENIENCIES)
    if unknown:
        sys.exit(f"unknown leniencies: {', '.join(sorted(unknown))}")
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, function, *extra, lenient), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
