"""A shard as a process, with the arguments ``RUN INDEX``; the supervisor's crew forks it.

It serves workers, each in a thread, and obeys the supervisor: when that line ends, so does it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from pathlib import Path

import torch

from hocket.comms.pulse import Pulse
from hocket.comms.rendezvous import Rendezvous
from hocket.comms.supervision import die_with_parent
from hocket.comms.wire import Line, Listener
from hocket.core.errors import WorkerLost
from hocket.sync.shard import Shard

_FIND_SECONDS = 300.0


def main() -> None:
    """Entry point: serve until the supervisor ends the line."""
    folder, index = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides what Ctrl-C means
    faulthandler.enable()
    die_with_parent()
    torch.set_num_threads(1)
    name = f"shard {index} (pid {os.getpid()} on {os.uname().nodename})"
    place, supervisor = Rendezvous.find(folder, name, _FIND_SECONDS)  # tries again on a busy machine
    try:
        obey(supervisor, place, name, index)
    except WorkerLost as error:
        print(f"{name} ends: {error}", file=sys.stderr, flush=True)
    os._exit(0)  # threads that still serve must not keep it


def obey(supervisor: Line, place: Rendezvous, name: str, index: int) -> None:
    """Serve workers and do what the supervisor says, until it ends the line."""
    shard = Shard(supervisor.send)
    listener = Listener(
        place.secret,
        name,
        lambda line: serve(shard, line),
        host=supervisor.own_host,
        max_payload=place.max_payload,
    )
    supervisor.send("shard", index=index, pid=os.getpid(), address=listener.address)
    pulse = Pulse(supervisor)
    try:
        while True:
            message = supervisor.receive()
            match message.kind:
                case "load":
                    supervisor.set_patience(message.facts["patience"])
                    shard.load(message.facts, message.tensors)
                    supervisor.send("loaded", generation=message.facts["generation"])
                case "dump":
                    state = shard.state()
                    supervisor.send(
                        "state", state.tensors, num_updates=state.num_updates, version=shard.version
                    )
                case "norm":
                    shard.norm(message.facts)
    finally:
        pulse.close()
        listener.close()


def serve(shard: Shard, line: Line) -> None:
    """Answer one worker until its line ends."""
    line.set_patience(None)
    buffer = torch.empty(0)
    try:
        while True:
            message = line.receive(buffer)
            if message.kind == "push":
                if buffer.numel() != shard.size:
                    buffer = torch.empty(shard.size, dtype=shard.dtype)
                line.send("ack", **shard.push(message.facts, message.tensors[0]))
            elif message.kind == "pull":
                told, tensors = shard.pull(message.facts, line.beat)
                line.send("weights", tensors, **told)
    except WorkerLost:
        return  # the supervisor hears of it, too, and deals with it
