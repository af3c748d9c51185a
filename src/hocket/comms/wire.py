"""Messages between two processes over TCP: a small JSON head, and tensors as they lie in memory.

For talk between pairs, where one side may vanish and the others go on: parameter servers, gossip,
the supervisor and its workers. Chosen by measurement: ``docs/decisions/0018-own-transport.md``.

* A frame is ``magic, length of the head, length of the payload``, the head, the payload. Both lengths
  are limited, so that a stranger cannot make a process allocate without end. Nothing is unpickled.
* Both ends prove that they know the secret of the run (HMAC-SHA256 over two fresh nonces, RFC 2104)
  before anything else is read.
* The end of a process ends its connections at once; silence longer than ``patience`` ends them too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from hocket.core.errors import WorkerLost

LOOPBACK = "127.0.0.1"
MAX_HEAD = 4 << 20
"""Bytes of a head, at most."""

_MAGIC = b"hkt1"
_FRAME = struct.Struct("!4sIQ")
_NONCE = 32
_HANDSHAKE_SECONDS = 10.0
_BEAT = "beat"
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.uint8,
        torch.bool,
    )
}

Address = tuple[str, int]
ENDED = "is gone (its line ended)"
"""How the message of a :class:`WorkerLost` ends whose process or host is no more."""


@dataclass(frozen=True)
class Message:
    """What one side said: a kind, facts as JSON has them, and one-dimensional tensors on the CPU."""

    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    tensors: list[torch.Tensor] = field(default_factory=list)


def new_secret() -> str:
    """A secret for one run, 256 bits as hexadecimal."""
    return secrets.token_hex(32)


class Line:
    """One connection whose ends have proved themselves to each other.

    ``send`` may be called by any thread, ``receive`` by one at a time. ``max_payload`` is the most
    bytes of tensors accepted in one message. ``peer`` names the other side in every error.
    """

    def __init__(self, connection: socket.socket, peer: str, max_payload: int) -> None:
        self._socket, self.peer, self._max_payload = connection, peer, max_payload
        self._sending = threading.Lock()
        self.bytes_sent = 0
        self.bytes_received = 0

    @property
    def own_host(self) -> str:
        """The address of this side, as the other side reaches it."""
        return str(self._socket.getsockname()[0])

    def set_patience(self, seconds: float | None, *, sending: float = 10.0) -> None:
        """How long ``receive`` bears silence (None: for ever), and ``send`` a side that does not read."""
        _set_timeout(self._socket, socket.SO_RCVTIMEO, seconds or 0.0)
        _set_timeout(self._socket, socket.SO_SNDTIMEO, sending)

    def send(self, kind: str, tensors: Sequence[torch.Tensor] = (), **facts: Any) -> None:
        """Send one message. Raises :class:`WorkerLost` naming the peer when it is gone or does not read."""
        parts = _frame(kind, tensors, facts)
        with self._sending:
            self._send_all(parts)

    def beat(self) -> None:
        """A sign of life, passed over by ``receive``; needless while something is being sent.

        It never waits for another message to go out: else who beats on several would be late on the rest.
        """
        if self._sending.acquire(blocking=False):
            try:
                self._send_all(_frame(_BEAT, (), {}))
            finally:
                self._sending.release()

    def receive(self, into: torch.Tensor | None = None) -> Message:
        """The next message. A first tensor of the size and type of ``into`` is received right there.

        Raises :class:`WorkerLost` naming the peer when it is gone, silent for too long, or speaks
        another language.
        """
        try:
            while True:
                message = self._receive(into)
                if message.kind != _BEAT:
                    return message
        except OSError as error:
            self.close()
            raise WorkerLost(f"{self.peer}: {_why(error, 'said nothing for too long')}") from None

    def close(self) -> None:
        """Close this side; both sides notice."""
        with suppress(OSError):  # the other side may be quicker
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send_all(self, parts: list[memoryview]) -> None:
        """For who holds the lock. Raises :class:`WorkerLost`."""
        try:
            while parts:
                sent = self._socket.sendmsg(parts[:64])
                self.bytes_sent += sent
                while parts and sent >= len(parts[0]):
                    sent -= len(parts.pop(0))
                if parts and sent:
                    parts[0] = parts[0][sent:]
        except OSError as error:
            self.close()
            why = _why(error, "took nothing from the line for too long")
            raise WorkerLost(f"{self.peer}: {why}") from None

    def _receive(self, into: torch.Tensor | None) -> Message:
        magic, head_size, payload_size = _FRAME.unpack(self._exactly(_FRAME.size))
        if magic != _MAGIC or head_size > MAX_HEAD or payload_size > self._max_payload:
            raise ConnectionAbortedError(
                f"sent a frame that cannot be: {magic!r}, head of {head_size} and payload of {payload_size} B"
            )
        told = json.loads(bytes(self._exactly(head_size)))
        tensors: list[torch.Tensor] = []
        left = payload_size
        for name, count in told["tensors"]:
            dtype = _DTYPES[name]
            left -= count * dtype.itemsize
            if count < 0 or left < 0:
                raise ConnectionAbortedError("sent a frame that is shorter than its head says")
            fits = into is not None and not tensors and into.dtype == dtype and into.numel() == count
            tensor = into if fits and into is not None else torch.empty(count, dtype=dtype)
            if count:
                self._fill(_bytes_of(tensor.detach()))
            tensors.append(tensor)
        if left:
            raise ConnectionAbortedError("sent a frame that is longer than its head says")
        return Message(told["kind"], told["facts"], tensors)

    def _exactly(self, size: int) -> bytearray:
        buffer = bytearray(size)
        self._fill(memoryview(buffer))
        return buffer

    def _fill(self, view: memoryview) -> None:
        while len(view):
            got = self._socket.recv_into(view)
            if got == 0:
                raise ConnectionResetError("ended the line")
            self.bytes_received += got
            view = view[got:]


class Listener:
    """Accepts lines from who knows the secret; each is handed to ``on_line`` in a thread of its own.

    Binds to loopback unless told another ``host``, and to a free port unless told one. ``name`` is what
    peers call this process.
    """

    def __init__(
        self,
        secret: str,
        name: str,
        on_line: Callable[[Line], None],
        *,
        host: str = LOOPBACK,
        port: int = 0,
        max_payload: int,
    ) -> None:
        self._secret, self._name, self._on_line, self._max_payload = secret, name, on_line, max_payload
        family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0]
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        self.address: Address = self._socket.getsockname()[:2]
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def close(self) -> None:
        """Accept no more; lines that stand stay."""
        with suppress(OSError):  # not every system lets a listening socket be shut down
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._greet, args=(connection,), name="line", daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        try:
            peer = _prove(connection, self._secret, self._name, accepting=True)
        except (OSError, ValueError):
            connection.close()  # a stranger: not worth a word to it
            return
        self._on_line(Line(connection, peer, self._max_payload))


def connect(
    address: Address, secret: str, name: str, *, max_payload: int, seconds: float = _HANDSHAKE_SECONDS
) -> Line:
    """Connect to a :class:`Listener`. Raises :class:`WorkerLost` naming the address when it cannot be."""
    host, port = address
    try:
        connection = socket.create_connection((host, port), timeout=seconds)
    except OSError as error:
        raise WorkerLost(f"{host}:{port}: cannot be reached: {error}") from None
    try:
        peer = _prove(connection, secret, name, accepting=False)
    except (OSError, ValueError) as error:
        connection.close()
        raise WorkerLost(f"{host}:{port}: did not prove that it belongs to this run: {error}") from None
    return Line(connection, peer, max_payload)


def _prove(connection: socket.socket, secret: str, name: str, *, accepting: bool) -> str:
    """Exchange nonces, names and proofs; the other side's name. Raises when it does not know the secret.

    The accepting side speaks last, so that a stranger learns nothing from it.
    """
    connection.settimeout(_HANDSHAKE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    ours = secrets.token_bytes(_NONCE)
    label = name.encode()[:255]
    connection.sendall(ours + bytes([len(label)]) + label)
    theirs = _read(connection, _NONCE)
    peer = _read(connection, _read(connection, 1)[0])
    if accepting:
        _check(_read(connection, _NONCE), _proof(secret, b"connects", theirs + peer, ours + label))
        connection.sendall(_proof(secret, b"accepts", ours + label, theirs + peer))
    else:
        connection.sendall(_proof(secret, b"connects", ours + label, theirs + peer))
        _check(_read(connection, _NONCE), _proof(secret, b"accepts", theirs + peer, ours + label))
    connection.settimeout(None)
    return peer.decode(errors="replace")


def _proof(secret: str, role: bytes, of: bytes, to: bytes) -> bytes:
    return hmac.new(secret.encode(), b"\0".join((role, of, to)), hashlib.sha256).digest()


def _check(given: bytes, expected: bytes) -> None:
    if not hmac.compare_digest(given, expected):
        raise ValueError("wrong secret")


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the line ended")
        data += part
    return data


def _set_timeout(connection: socket.socket, option: int, seconds: float) -> None:
    """Let the kernel end a blocking call: unlike Python's timeout, each direction has its own."""
    whole = int(seconds)
    micro = int((seconds - whole) * 1e6)
    connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, micro))


def _frame(kind: str, tensors: Sequence[torch.Tensor], facts: dict[str, Any]) -> list[memoryview]:
    """A message as it goes onto the wire."""
    flat = [tensor.detach().reshape(-1).cpu().contiguous() for tensor in tensors]
    shapes = [[str(tensor.dtype).removeprefix("torch."), tensor.numel()] for tensor in flat]
    head = json.dumps({"kind": kind, "tensors": shapes, "facts": facts}).encode()
    payload = [_bytes_of(tensor) for tensor in flat if tensor.numel()]
    frame = _FRAME.pack(_MAGIC, len(head), sum(len(part) for part in payload))
    return [memoryview(frame + head), *payload]


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, itself."""
    array: Any = tensor.view(torch.uint8).numpy()
    return memoryview(array)


def _why(error: OSError, when_silent: str) -> str:
    if isinstance(error, BlockingIOError):
        return when_silent
    if isinstance(error, ConnectionAbortedError):
        return str(error)
    return ENDED
