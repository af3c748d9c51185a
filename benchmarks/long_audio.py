"""A train step of one long utterance: attention by a table, in tiles, and around a ring of processes.

python benchmarks/long_audio.py [--preset tiny] [--layers N] [--minutes 1 5 30] [--window LEFT RIGHT]
    [--ways table tiles recompute ring2 ring4] [--only memory|time] [--rounds 3] [--out RESULT.md]

``recompute`` is tiles, with every block's forward pass run again when the backward pass comes.

Memory is live tensor storage above weights, gradients and features: kept between forward and backward pass
(in all, and by the attention modules alone), and at most. It depends on shapes alone and needs no quiet
machine. Times are minima, one thread a process; where there are more processes than cores they say nothing,
and none are given.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tools.live import Live
from torch import nn

from hocket.comms.communicator import TorchCommunicator
from hocket.core.work import MicroBatch
from hocket.hardware.device import cpu_name
from hocket.model import ModelConfig, build
from hocket.model.attention import RelativeAttention
from hocket.parallel.recompute import Recomputing
from hocket.parallel.sequence import split_sequence

FRAMES_PER_MINUTE, TOKENS_PER_SECOND, VOCAB_SIZE = 6000, 4, 501
WAYS = {"table": 1, "tiles": 1, "recompute": 1, "ring2": 2, "ring4": 4}
MOST_BYTES = 8e9
"""A table of scores that would be larger, over all heads and layers, is not run."""


@dataclass(frozen=True)
class Case:
    """What is measured in a process."""

    preset: str
    layers: int
    window: tuple[int, ...]
    minutes: float
    way: str
    measure: str

    @property
    def config(self) -> ModelConfig:
        """Of the model: the way is a matter of the threshold alone."""
        left, right = self.window or (None, None)
        changes: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "left_context": left, "right_context": right}
        if self.layers:
            changes["num_layers"] = self.layers
        changes["blockwise_above"] = 10**9 if self.way == "table" else 0
        return ModelConfig.model_validate({"preset": self.preset, **changes})

    @property
    def table_bytes(self) -> float:
        """Of the weights of attention that the table keeps, over all layers."""
        config = self.config
        frames = config.subsampled(round(self.minutes * FRAMES_PER_MINUTE))
        return 4.0 * config.num_layers * config.num_heads * frames**2


def batch(minutes: float, num_mel_bins: int) -> MicroBatch:
    """One utterance of noise with a text of usual length."""
    generator = torch.Generator().manual_seed(0)
    num_frames, num_tokens = round(minutes * FRAMES_PER_MINUTE), round(minutes * 60 * TOKENS_PER_SECOND)
    return MicroBatch(
        0,
        ["long"],
        torch.randn(1, num_frames, num_mel_bins, generator=generator),
        torch.tensor([num_frames]),
        torch.randint(0, VOCAB_SIZE - 1, (1, num_tokens), generator=generator),
        torch.tensor([num_tokens]),
        dropout_key=1,
    )


class KeptBy:
    """Bytes that are live after the modules of a kind, and were not before, added up."""

    def __init__(self, model: nn.Module, kind: type[nn.Module], live: Live) -> None:
        self.total, self._before, self._live = 0, 0, live
        for module in model.modules():
            if isinstance(module, kind):
                module.register_forward_pre_hook(self._begin)
                module.register_forward_hook(self._end)

    def _begin(self, *_: object) -> None:
        self._before = self._live.now

    def _end(self, *_: object) -> None:
        self.total += self._live.now - self._before


def rank_of(case: Case, rank: int, store: str) -> dict[str, float]:
    """One process's figures."""
    torch.set_num_threads(1)
    model = build(case.config, seed=1).train()
    given = batch(case.minutes, case.config.num_mel_bins)
    if store:
        dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=WAYS[case.way])
        split_sequence(model, TorchCommunicator())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    known = [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]
    known += [given.features_BTF, given.feature_lens_B, given.tokens_BU, given.token_lens_B]
    if case.way == "recompute":
        Recomputing(model, "all")
    if case.measure == "memory":
        with Live(known) as live:
            attention = KeptBy(model, RelativeAttention, live)
            loss = model.loss(given)
            kept, by_attention = live.now, attention.total
            loss.backward()  # type: ignore[no-untyped-call]
        return {"kept": kept, "attention": by_attention, "peak": live.peak, "loss": float(loss.detach())}
    if store:
        dist.barrier()
    start = time.perf_counter()
    loss = model.loss(given)
    loss.backward()  # type: ignore[no-untyped-call]
    return {"seconds": time.perf_counter() - start, "loss": float(loss.detach())}


def measure(case: Case) -> dict[str, float]:
    """The largest of all processes' figures, each in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        num_ranks = WAYS[case.way]
        store = str(Path(folder, "store")) if num_ranks > 1 else ""
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--inner", json.dumps([case.__dict__, rank, store])],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for rank in range(num_ranks)
        ]
        told = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{case}: a process failed")
    found = [json.loads(text) for text in told]
    return {name: max(each[name] for each in found) for name in found[0]}


def rows(arguments: argparse.Namespace) -> list[str]:
    """The table: a row for each length and way."""
    lines = [
        "| minutes | frames | way | kept, MB | by attention | at most | of tiles | seconds | of tiles |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    cores = len(os.sched_getaffinity(0))
    for minutes in arguments.minutes:
        found: dict[str, dict[str, float]] = {}
        for turn in range(arguments.rounds):
            for way in arguments.ways:
                case = Case(
                    arguments.preset, arguments.layers, tuple(arguments.window or ()), minutes, way, "memory"
                )
                if way == "table" and case.table_bytes > MOST_BYTES:
                    continue
                told = found.setdefault(way, {})
                if turn == 0 and arguments.only != "time":
                    told.update(measure(case))
                if arguments.only != "memory" and WAYS[way] <= cores:
                    timed = measure(Case(**{**case.__dict__, "measure": "time"}))
                    told["seconds"] = min(timed["seconds"], told.get("seconds", timed["seconds"]))
                    told["loss"] = timed["loss"]
        losses = [told["loss"] for told in found.values()]
        if max(losses) - min(losses) > 1e-4 * abs(losses[0]):
            raise SystemExit(f"{minutes} minutes: losses differ: {losses}")
        frames = case.config.subsampled(round(minutes * FRAMES_PER_MINUTE))
        base = found.get("tiles", {})
        for way in arguments.ways:
            if way not in found:
                note = f"not run: its weights alone would be {case.table_bytes / 1e9:.0f} GB"
                lines.append(f"| {minutes:g} | {frames:,} | {way} | {note} | | | | | |")
                continue
            told = found[way]
            stored = ("kept", "attention", "peak")
            cells = [f"{told[name] / 1e6:,.0f}" if name in told else "" for name in stored]
            cells.append(f"{told['peak'] / base['peak']:.3f}" if "peak" in told and "peak" in base else "")
            cells.append(f"{told['seconds']:.1f}" if "seconds" in told else "")
            both = "seconds" in told and "seconds" in base
            cells.append(f"{told['seconds'] / base['seconds']:.2f}" if both else "")
            lines.append(f"| {minutes:g} | {frames:,} | {way} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure, print, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--layers", type=int, default=0, help="fewer layers than the preset has")
    parser.add_argument("--window", type=int, nargs=2, help="left and right context, frames")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 30])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--only", choices=["memory", "time"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inner:
        case, rank, store = json.loads(arguments.inner)
        print(json.dumps(rank_of(Case(**{**case, "window": tuple(case["window"])}), rank, store)))
        return
    config = Case(arguments.preset, arguments.layers, tuple(arguments.window or ()), 1, "tiles", "").config
    window = f"{config.left_context} frames back, {config.right_context} ahead" if arguments.window else "all"
    text = "\n".join(
        [
            "# Long audio",
            "",
            f"- date: {datetime.date.today().isoformat()}",
            f"- command: `python benchmarks/long_audio.py {' '.join(sys.argv[1:])}`",
            f"- machine: {cpu_name()}, one thread a process",
            f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
            f"- preset {arguments.preset}, {config.num_layers} layers, fp32; context: {window}; "
            f"one utterance, {TOKENS_PER_SECOND} tokens a second of {VOCAB_SIZE}",
            "",
            *rows(arguments),
            "",
        ]
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
