"""An HTTP server of a folder, with ranges, that does wrong or is slow when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = Callable[[str, int], str | None]
"""Of a path and the how-manieth request it is: ``500``, ``hang``, ``short``, ``all``, ``flip``, or None."""


_PIECE = 2048


class FaultyServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # where the kernel drops a connection, it is tried again a second later

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.fault: Fault = lambda path, number: None
        self.num_requests, self.num_bytes = 0, 0
        self.num_sent = 0
        """Bytes of answers that went out, where these have a rate."""
        self.rate: float | None = None
        """Bytes a second of all answers together."""
        self.most_at_once = self._at_once = 0
        """Ranges that were asked for and not answered yet."""
        self.lock, self.over = threading.Lock(), threading.Event()
        self._free_at = 0.0

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While an answer is given."""
        with self.lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self.lock:
                self._at_once -= 1

    def paced(self, data: bytes) -> Iterator[bytes]:
        """The same in pieces, as fast as they may go: whoever asks first for the next piece has it first."""
        if self.rate is None:
            yield data
            return
        for first in range(0, len(data), _PIECE):
            piece = data[first : first + _PIECE]
            with self.lock:
                begin = max(time.monotonic(), self._free_at)
                self._free_at = begin + len(piece) / self.rate
                until = self._free_at
            self.over.wait(max(0.0, until - time.monotonic()))
            with self.lock:
                self.num_sent += len(piece)
            yield piece

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed, or give up, leave in the midst of an answer."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        status, asked = 200, self.headers.get("Range")
        headers = {"Content-Length": str(len(data)), "Accept-Ranges": "bytes"}
        fault = None
        if asked is not None:
            first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            if first >= len(data):
                self.send_error(416)
                return
            status, part = 206, data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
            with self.server.lock:
                number = self.server.num_requests
                self.server.num_requests += 1
                self.server.num_bytes += len(part)
            fault = self.server.fault(self.path, number)
            if fault == "500":
                self.send_error(500)
                return
            if fault == "hang":
                self.server.over.wait(30)
                self.close_connection = True
                return
            if fault == "flip":
                part = bytes([part[0] ^ 1]) + part[1:]
            if fault == "all":
                status, part = 200, data
            headers["Content-Length"] = str(len(part))
            data = part[: len(part) // 2] if fault == "short" else part
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            with self.server.answering():
                for piece in self.server.paced(data):
                    self.wfile.write(piece)
        if fault == "short":
            self.close_connection = True


@contextmanager
def serving(folder: Path) -> Iterator[FaultyServer]:
    """The server, until the block ends."""
    server = FaultyServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
