"""Lines between processes: what arrives, who is let in, and what is said when the other side is gone."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from hocket.comms.pulse import Pulse
from hocket.comms.wire import Line, Listener, connect, new_secret
from hocket.core.errors import WorkerLost

LIMIT = 1 << 20


class Ends:
    """Both ends of a line."""

    def __init__(self) -> None:
        self.secret = new_secret()
        self._here = threading.Event()
        self.theirs: Line | None = None
        self.listener = Listener(self.secret, "the server", self._take, max_payload=LIMIT)

    def _take(self, line: Line) -> None:
        self.theirs = line
        self._here.set()

    def open(self, max_payload: int = LIMIT) -> tuple[Line, Line]:
        ours = connect(self.listener.address, self.secret, "the client", max_payload=max_payload)
        assert self._here.wait(60)
        assert self.theirs is not None
        return ours, self.theirs


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.listener.close()


def test_a_message_arrives_as_it_was_sent(ends: Ends) -> None:
    ours, theirs = ends.open()
    tensors = [
        torch.randn(3, 5),
        torch.arange(4),
        torch.randn(7).to(torch.bfloat16),
        torch.empty(0),
        torch.tensor([True, False]),
    ]
    ours.send("push", tensors, step=3, name="größer")
    message = theirs.receive()
    assert (message.kind, message.facts) == ("push", {"step": 3, "name": "größer"})
    for sent, got in zip(tensors, message.tensors, strict=True):
        assert got.dtype == sent.dtype
        assert torch.equal(got, sent.reshape(-1))
    assert theirs.bytes_received == ours.bytes_sent > 0
    assert ours.peer == "the server"
    assert theirs.peer == "the client"


def test_a_tensor_is_received_in_place_when_it_fits(ends: Ends) -> None:
    ours, theirs = ends.open()
    place = torch.zeros(10)
    ours.send("weights", [torch.arange(5.0)])
    message = theirs.receive(place[2:7])
    assert message.tensors[0].data_ptr() == place[2:7].data_ptr()
    assert place.tolist() == [0, 0, 0, 1, 2, 3, 4, 0, 0, 0]
    ours.send("weights", [torch.arange(6.0)])
    assert theirs.receive(place[2:7]).tensors[0].numel() == 6


def test_beats_are_passed_over(ends: Ends) -> None:
    ours, theirs = ends.open()
    ours.beat()
    ours.send("after")
    assert theirs.receive().kind == "after"


def test_who_does_not_know_the_secret_is_not_let_in(ends: Ends) -> None:
    with pytest.raises(WorkerLost, match="did not prove"):
        connect(ends.listener.address, new_secret(), "a stranger", max_payload=LIMIT)
    with socket.create_connection(ends.listener.address) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" + b"x" * 400)
        data = b"x"
        while data:  # a nonce and a name, no proof; then it is cut off
            try:
                data = stranger.recv(4096)
            except ConnectionResetError:
                break
    assert ends.theirs is None
    ends.open()  # it still takes those who do


def test_a_proof_cannot_be_used_again(ends: Ends) -> None:
    """A stranger that has seen one handshake sends the same bytes: the nonce is another."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as middle:

        def pump(source: socket.socket, sink: socket.socket, keep: bool) -> None:
            while data := source.recv(4096):
                if keep:
                    seen.append(data)
                sink.sendall(data)

        def relay() -> None:
            client, _ = middle.accept()
            server = socket.create_connection(ends.listener.address)
            threading.Thread(target=pump, args=(server, client, False), daemon=True).start()
            pump(client, server, True)

        threading.Thread(target=relay, daemon=True).start()
        connect(middle.getsockname(), ends.secret, "the client", max_payload=LIMIT)
        assert ends._here.wait(60)
    ends.theirs = None
    with socket.create_connection(ends.listener.address) as stranger:
        stranger.recv(4096)
        stranger.sendall(b"".join(seen))
        assert stranger.recv(4096) == b""
    assert ends.theirs is None


def test_a_message_that_is_too_large_is_refused_before_it_is_read(ends: Ends) -> None:
    ours, theirs = ends.open()
    ours.send("push", [torch.zeros(LIMIT // 4 + 1)])
    with pytest.raises(WorkerLost, match="the client: sent a frame that cannot be"):
        theirs.receive()


def test_a_frame_that_lies_about_its_length_is_refused(ends: Ends) -> None:
    import json
    import struct

    ours, theirs = ends.open()
    head = json.dumps({"kind": "push", "tensors": [["float32", 1000]], "facts": {}}).encode()
    ours._socket.sendall(struct.pack("!4sIQ", b"hkt1", len(head), 8) + head + b"\0" * 8)
    with pytest.raises(WorkerLost, match="shorter than its head says"):
        theirs.receive()


def test_the_end_of_a_peer_is_named(ends: Ends) -> None:
    ours, theirs = ends.open()
    theirs.close()
    with pytest.raises(WorkerLost, match="the server: is gone"):
        ours.receive()


def test_silence_is_named(ends: Ends) -> None:
    ours, _theirs = ends.open()
    ours.set_patience(0.2)
    with pytest.raises(WorkerLost, match="the server: said nothing"):
        ours.receive()


def test_a_peer_that_does_not_read_holds_nobody_up(ends: Ends) -> None:
    ours, _theirs = ends.open()
    ours.set_patience(None, sending=0.2)
    with pytest.raises(WorkerLost, match="took nothing"):
        for _ in range(200):
            ours.send("push", [torch.zeros(LIMIT // 4)])


def test_a_link_that_stalls_for_five_seconds_loses_nothing(ends: Ends) -> None:
    """Nothing passes for five seconds, and both ends still beat: afterwards all arrives, in order."""
    stalled = threading.Event()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):  # the test ends its lines when it has seen enough
            while data := source.recv(65536):
                while stalled.is_set():
                    time.sleep(0.01)
                sink.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as middle:

        def relay() -> None:
            client, _ = middle.accept()
            server = socket.create_connection(ends.listener.address)
            threading.Thread(target=pump, args=(server, client), daemon=True).start()
            pump(client, server)

        threading.Thread(target=relay, daemon=True).start()
        ours = connect(middle.getsockname(), ends.secret, "the client", max_payload=LIMIT)
        assert ends._here.wait(60)
        theirs = ends.theirs
        assert theirs is not None
        for line in (ours, theirs):
            line.set_patience(60.0, sending=60.0)
        pulse = Pulse(ours, theirs)
        stalled.set()
        for number in range(5):
            ours.send("push", [torch.full((50_000,), float(number))], number=number)
        threading.Timer(5.0, stalled.clear).start()
        for number in range(5):
            message = theirs.receive()
            assert message.facts["number"] == number
            assert float(message.tensors[0].sum()) == 50_000.0 * number
        pulse.close()


def test_loopback_unless_told_otherwise(ends: Ends) -> None:
    assert ends.listener.address[0] == "127.0.0.1"
