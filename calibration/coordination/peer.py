"""The other side of a crossing: a process of its own, in the standard library only.

Run as `python -I -S peer.py WHAT`. It says where it listens in one line, works, and ends when its standard input closes,
so it cannot outlive the process that started it, however that one ends.

- `pipe`: answers on standard output what comes on standard input.
- `unix PATH`, `tcp`: answers messages on connections, a thread for each.
- `http`: answers `POST` with the length of the body, HTTP/1.1 keep-alive, a thread for each connection.
- `branch`: answers each byte with a byte.
- `spin`: byte `1` makes it busy, byte `0` makes it wait; it answers each byte when it has done so.

A message opens with its size, 64 bits big-endian; the answer is the number of bytes received, likewise.

Leaves out: TLS; frameworks, which add their own work to a request.
Checked: tests/test_coordination_probes.py.
"""

import os
import select
import sys
from collections.abc import Callable

_CHUNK = 1 << 18


def answer_messages(receive: Callable[[int], bytes], send: Callable[[bytes], object]) -> None:
    """Answer each message with the number of bytes received, until the other side closes."""
    while data := receive(_CHUNK):
        seen, size = len(data), int.from_bytes(data[:8], "big")
        while seen < size:
            data = receive(_CHUNK)
            if not data:
                return
            seen += len(data)
        send(seen.to_bytes(8, "big"))


def branch() -> None:
    """Answer each byte with a byte."""
    while data := os.read(0, 1):
        os.write(1, data)


def spin() -> None:
    """Wait for a byte; be busy between `1` and `0`."""
    while command := os.read(0, 1):
        os.write(1, command)
        while command == b"1":
            for _ in range(2000):  # tens of microseconds, between looks at the input
                pass
            if select.select([0], [], [], 0)[0]:
                break


def listen(path: str | None) -> None:
    """Answer messages on connections to a Unix socket at `path`, or to a free TCP port of the loopback."""
    import socket  # here and below: a process that only pipes starts without them

    server = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_STREAM)
    server.bind(path or ("127.0.0.1", 0))
    server.listen()

    def serve(connection: socket.socket) -> None:
        with connection:
            if not path:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer_messages(connection.recv, connection.sendall)

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            _in_thread(serve, connection)

    _in_thread(accept)
    _serve_until_closed("" if path else str(server.getsockname()[1]))


def http() -> None:
    """Answer `POST` on a free port of the loopback with the length of the body."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from socketserver import TCPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # headers and body leave together

        def do_POST(self) -> None:
            seen = len(self.rfile.read(int(self.headers["Content-Length"])))
            body = str(seen).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        server_bind = TCPServer.server_bind  # without asking the name service who 127.0.0.1 is

    server = Server(("127.0.0.1", 0), Handler)
    _in_thread(server.serve_forever)
    _serve_until_closed(str(server.server_address[1]))


def _in_thread(work: Callable[..., object], *arguments: object) -> None:
    import threading

    threading.Thread(target=work, args=arguments, daemon=True).start()


def _serve_until_closed(where: str) -> None:
    """Say where it listens, and wait for the standard input to close."""
    _ready(where)
    while os.read(0, 1):
        pass
    os._exit(0)  # threads may hold connections


def _ready(where: str = "") -> None:
    os.write(1, f"{where}\n".encode())


def main(what: str, path: str | None = None) -> None:
    """Be one kind of peer, until the standard input closes."""
    if what in {"unix", "tcp"}:
        listen(path)
    elif what == "http":
        http()
    else:
        piped = {"pipe": _answer_on_pipes, "branch": branch, "spin": spin}[what]
        _ready()
        piped()


def _answer_on_pipes() -> None:
    answer_messages(lambda size: os.read(0, size), lambda data: os.write(1, data))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (KeyboardInterrupt, BrokenPipeError):  # the other side was interrupted, or is gone
        os._exit(0)
