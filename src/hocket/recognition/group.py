"""A worker of several processes: each computes a part of the frames of the same micro-batches.

The worker that a coordinator knows leads: it reads, searches and answers. It starts its followers on the
same machine, hands them the features of each micro-batch, and gathers what all of them computed
(:mod:`hocket.parallel.sequence`). They end with it, and it ends when one of them does: a lost group is
replaced like any lost worker.

``python -m hocket.recognition.group`` is a follower; what it must know comes on its standard input.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn, cast

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from hocket.comms.communicator import Communicator, TorchCommunicator
from hocket.comms.supervision import die_with_parent
from hocket.corpus.loading import pad
from hocket.decoding.vocabulary import Vocabulary
from hocket.hardware.device import backend, fix_arithmetic
from hocket.hardware.memory import keep_freed_memory
from hocket.recognition import opening
from hocket.recognition.encoders import Encoder, Samples, TorchEncoder
from hocket.recognition.messages import Start
from hocket.recognition.process import environment

_IDLE = timedelta(days=30)
"""How long followers wait for work."""
_LAST_WORDS_SECONDS = 10.0


class GroupEncoder:
    """The model of a group's leader: features in, log-probabilities of all frames out."""

    def __init__(self, encoder: Encoder, start: Start) -> None:
        self._encoder = _splittable(encoder)
        self.vocab_size, self.frame_seconds = encoder.vocab_size, encoder.frame_seconds
        store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        for rank in range(1, start.sp):
            threading.Thread(
                target=_end_with, args=(_follower(start, rank, store.port), rank), daemon=True
            ).start()
        self._ranks = _join(store, start.sp, 0)
        self._encoder.split(self._ranks)

    def features(self, waveform: Samples) -> torch.Tensor:
        """What the model hears of one utterance."""
        return self._encoder.features(waveform)

    def encode(self, features: Sequence[torch.Tensor], num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`hocket.recognition.encoders.Encoder.encode`."""
        try:
            _tell(self._ranks, features, num_frames)
            return self._encoder.encode(features, num_frames)
        except Exception:
            # The others are in the midst of a micro-batch and wait for this rank: there is no going on.
            # Where one of them is gone, that is the better reason, and is told first.
            threading.Event().wait(_LAST_WORDS_SECONDS)
            traceback.print_exc()
            _leave()


def load(start: Start, rank: int) -> tuple[Encoder, Vocabulary]:
    """The model of one rank of a group."""
    slot = start.slot * start.sp + rank
    return opening.load(opening.find(start.model), start.device, start.precision, slot, start.threads)


def main() -> None:
    """A follower: compute what the leader says, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    start, rank, port = cast(tuple[Start, int, int], pickle.load(sys.stdin.buffer))
    fix_arithmetic(start.threads)
    keep_freed_memory()
    encoder = _splittable(load(start, rank)[0])
    ranks = _join(TCPStore("localhost", port, is_master=False), start.sp, rank)
    encoder.split(ranks)
    while True:
        encoder.encode(*_hear(ranks, encoder.features.num_mel_bins))


def _follower(start: Start, rank: int, port: int) -> subprocess.Popen[bytes]:
    """Start one; what it writes goes where the leader's does."""
    command = [sys.executable, "-P", "-m", "hocket.recognition.group"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(start.threads))
    assert process.stdin is not None
    with process.stdin as line:
        line.write(pickle.dumps((start, rank, port)))
    return process


def _end_with(process: subprocess.Popen[bytes], rank: int) -> None:
    status = process.wait()
    print(f"rank {rank} of this worker's group left with status {status}", file=sys.stderr)
    _leave()


def _leave() -> NoReturn:
    sys.stderr.flush()
    os._exit(1)


def _join(store: TCPStore, num_ranks: int, rank: int) -> Communicator:
    dist.init_process_group(backend(), store=store, rank=rank, world_size=num_ranks, timeout=_IDLE)
    return TorchCommunicator()


def _tell(ranks: Communicator, features: Sequence[torch.Tensor], num_frames: int) -> None:
    """Hand a micro-batch to all others; :func:`_hear` receives it."""
    features_BTF, lens_B = pad(features, num_frames, features[0].shape[1])
    ranks.broadcast(torch.tensor([len(features), num_frames]), 0)
    ranks.broadcast(lens_B, 0)
    ranks.broadcast(features_BTF, 0)


def _hear(ranks: Communicator, num_mel_bins: int) -> tuple[list[torch.Tensor], int]:
    size = torch.zeros(2, dtype=torch.int64)
    ranks.broadcast(size, 0)
    num_utterances, num_frames = size.tolist()
    lens_B = torch.zeros(num_utterances, dtype=torch.int64)
    ranks.broadcast(lens_B, 0)
    features_BTF = torch.empty((num_utterances, num_frames, num_mel_bins))
    ranks.broadcast(features_BTF, 0)
    return [row[:length] for row, length in zip(features_BTF, lens_B.tolist(), strict=True)], num_frames


def _splittable(encoder: Encoder) -> TorchEncoder:
    assert isinstance(encoder, TorchEncoder), "opening.check_split() refuses others"
    return encoder


if __name__ == "__main__":
    main()
