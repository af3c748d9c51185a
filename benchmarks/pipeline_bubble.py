"""How idle the stages of a pipeline are: measured, and as the simulation says.

Two processes, one thread each, gloo, and a step of micro-batches of unlike lengths. Each way of running it
(a schedule and a cut) is run for some rounds, taking turns. In each round both ranks also time every pass of
their stages alone, on random inputs and side by side, without waiting for each other; and messages of two
sizes go to and fro. From those medians the simulation says how long the step takes and how idle each stage
is. What is measured is the time from the first pass of the step to its last, on the clock that both
processes share, and how much of it each rank computes.

The stages of four ranks are timed in the same way, on the two processes in turn, and their step is simulated;
nothing runs on four.

    python benchmarks/pipeline_bubble.py [--preset base] [--rounds 20] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from hocket.comms.communicator import TorchCommunicator
from hocket.core import clock
from hocket.core.work import MicroBatch
from hocket.hardware.device import cpu_name
from hocket.model import ModelConfig, build
from hocket.model.ctc import FastConformerCTC
from hocket.model.presets import PRESETS
from hocket.parallel.gradients import WholeGradients
from hocket.parallel.pipeline import CHUNKS, PipelineReplica, Span, balanced, cut
from hocket.parallel.pipeline_lines import TorchLines
from hocket.parallel.pipeline_schedule import Action, ScheduleName, make_order
from hocket.parallel.whole import Share
from hocket.planning.pipeline import Forecast, simulate

CPU = torch.device("cpu")
RANKS, WARM_UP = 2, 1
FRAMES = (1180, 240, 600, 400, 900, 300, 720, 500)
"""Padded feature frames of each micro-batch of a step."""
BUDGET = 1200
"""Feature frames of a micro-batch."""
SIZES = (2**12, 2**20)
"""Values of the messages that time the link."""
PINGS = 20
Stages = tuple[range, ...]
SCHEDULES: tuple[ScheduleName, ...] = ("gpipe", "1f1b", "interleaved")


@dataclass(frozen=True)
class Way:
    """A way of running a step."""

    schedule: ScheduleName
    cut: str
    """``cost`` or ``blocks``."""
    degree: int

    @property
    def num_stages(self) -> int:
        """Over all ranks."""
        return self.degree * CHUNKS[self.schedule]

    def stages(self, model: FastConformerCTC) -> list[range]:
        """The pieces of each stage."""
        if self.cut == "cost":
            return balanced(model, self.degree, CHUNKS[self.schedule])
        return equal_blocks(model.config.num_layers, self.num_stages)


def equal_blocks(num_blocks: int, num_stages: int) -> list[range]:
    """As many blocks for every stage, the first ones one more; the subsampling and the head beside them."""
    sizes = [num_blocks // num_stages + (s < num_blocks % num_stages) for s in range(num_stages)]
    ends = [1 + sum(sizes[: s + 1]) for s in range(num_stages)]
    starts = [0, *ends[:-1]]
    return [range(a, b) for a, b in zip(starts, [*ends[:-1], num_blocks + 2], strict=True)]


def micro_batches() -> list[MicroBatch]:
    """The step: about as many frames in each micro-batch, of other lengths."""
    found = []
    for index, frames in enumerate(FRAMES):
        draw = torch.Generator().manual_seed(index)
        rows, tokens = max(1, round(BUDGET / frames)), frames // 15
        lens_B = torch.linspace(0.9 * frames, frames, rows).long()
        features_BTF = torch.randn(rows, frames, 80, generator=draw)
        features_BTF[torch.arange(frames) >= lens_B[:, None]] = 0.0
        found.append(
            MicroBatch(
                index,
                [f"{index}-{row}" for row in range(rows)],
                features_BTF,
                lens_B,
                torch.randint(0, 31, (rows, tokens), generator=draw),
                torch.full((rows,), tokens),
                dropout_key=index,
            )
        )
    return found


def new_model(preset: str) -> FastConformerCTC:
    return build(ModelConfig(preset=preset, vocab_size=32), seed=0).train()


def replica_of(preset: str, way: Way, ranks: TorchCommunicator) -> PipelineReplica:
    model = new_model(preset)
    stages = way.stages(model)
    cut(model, stages, way.degree, ranks.rank)
    return PipelineReplica(
        model,
        stages,
        ranks,
        TorchLines([range(RANKS)], len(stages), CPU),
        CPU,
        schedule=way.schedule,
        precision="fp32",
        gradients=WholeGradients(model, 4.0),
        share=Share(inside=ranks, speaks=ranks.rank == 0),
    )


def alone(model: FastConformerCTC, stages: Sequence[range], number: int, batch: MicroBatch) -> list[float]:
    """Seconds of a stage's forward and backward pass over a micro-batch, with nobody to wait for."""
    pieces = stages[number]
    handed = None
    if number:
        handed = torch.randn(tuple(model.handed_shape(pieces.start, batch))).requires_grad_()
    times = [clock.monotonic()]
    out = model.run_pieces(pieces, batch, handed)
    times.append(clock.monotonic())
    gradient = torch.ones(()) if pieces.stop == model.config.num_pieces else torch.randn_like(out)
    times.append(clock.monotonic())
    out.backward(gradient)  # type: ignore[no-untyped-call]
    times.append(clock.monotonic())
    return [times[1] - times[0], times[3] - times[2]]


def ping(line: TorchLines, rank: int, size: int) -> float:
    """Seconds of a message of ``size`` values one way."""
    there, back = line.between(0, 1), line.between(1, 0)
    message = torch.zeros(size)
    dist.barrier()
    start = clock.monotonic()
    for _ in range(PINGS):
        for mine, way in ((0, there), (1, back)):
            if rank == mine:
                way.send(message)
                way.flush()
            else:
                way.receive((size,), torch.float32).wait()
    return (clock.monotonic() - start) / (2 * PINGS)


def rank_main(rank: int, store: str, preset: str, ways: list[Way], rounds: int, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=RANKS)
    ranks, batches, whole = TorchCommunicator(), micro_batches(), new_model(preset)
    run = {way: replica_of(preset, way, ranks) for way in ways if way.degree == RANKS}
    link = TorchLines([range(RANKS)], RANKS, CPU)
    spans: dict[Way, list[list[Span]]] = {way: [] for way in run}
    passes: dict[tuple[Stages, Action], list[float]] = {}
    every = {tuple(way.stages(whole)): None for way in ways}
    pings: dict[int, list[float]] = {size: [] for size in SIZES}
    for turn in range(rounds + WARM_UP):
        for stages in every:
            dist.barrier()
            for number in range(rank, len(stages), RANKS):
                for position, batch in enumerate(batches):
                    took = alone(whole, stages, number, batch)
                    for kind, seconds in zip(("forward", "backward"), took, strict=True):
                        action = Action(kind, number, position)  # type: ignore[arg-type]
                        passes.setdefault((stages, action), []).append(seconds)
            whole.zero_grad(set_to_none=True)
        for way, replica in run.items():
            dist.barrier()
            replica.spans = []
            replica.forward_backward(batches)
            if turn >= WARM_UP:
                spans[way].append(replica.spans)
        for size in SIZES:
            pings[size].append(ping(link, rank, size))
    taken = {key: statistics.median(times[WARM_UP:]) for key, times in passes.items()}
    found = [None] * RANKS
    dist.all_gather_object(found, (spans, taken, {size: statistics.median(t) for size, t in pings.items()}))
    if rank == 0:
        torch.save(found, results)
    dist.destroy_process_group()


def measured(rounds_by_rank: Sequence[Sequence[Sequence[Span]]]) -> tuple[float, float]:
    """Median seconds of a step, and the median over steps of its bubble (the mean of the ranks')."""
    seconds, bubbles = [], []
    for ranks in zip(*rounds_by_rank, strict=True):
        every = [span for spans in ranks for span in spans]
        step = max(span.end for span in every) - min(span.start for span in every)
        busy = [sum(span.end - span.start for span in spans) for spans in ranks]
        seconds.append(step)
        bubbles.append(1.0 - sum(busy) / (len(busy) * step))
    return statistics.median(seconds), statistics.median(bubbles)


def forecast(
    way: Way, taken: dict[tuple[Stages, Action], float], model: FastConformerCTC, link: Callable[[int], float]
) -> Forecast:
    """What the simulation says of a way."""
    batches, stages = micro_batches(), tuple(way.stages(model))

    def transfer(action: Action) -> float:
        piece = stages[action.stage].stop if action.kind == "forward" else stages[action.stage].start
        size = 1
        for length in model.handed_shape(piece, batches[action.micro_batch]):
            size *= length
        return link(size)

    order = make_order(way.schedule, way.degree, CHUNKS[way.schedule], len(batches))
    return simulate(order, lambda action: taken[stages, action], transfer)


def measure(preset: str, ways: list[Way], rounds: int) -> Any:
    """What the two processes found, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        store, results = str(Path(folder, "store")), str(Path(folder, "results"))
        mp.spawn(rank_main, (store, preset, ways, rounds, results), nprocs=RANKS)  # type: ignore[no-untyped-call]
        return torch.load(results, weights_only=False)


def report(preset: str, rounds: int) -> str:
    """The result file: command, machine, versions, tables."""
    model = new_model(preset)
    ways = [
        Way(schedule, by, degree)
        for degree in (RANKS, 4)
        for schedule in SCHEDULES
        for by in ("cost", "blocks")
    ]
    ways = [way for way in ways if way.num_stages <= model.config.num_layers]
    found = measure(preset, ways, rounds)
    taken = found[0][1] | found[1][1]
    small, large = (max(found[0][2][size], found[1][2][size]) for size in SIZES)
    slope = max(0.0, large - small) / (SIZES[1] - SIZES[0])

    def link(size: int) -> float:
        return small + slope * (size - SIZES[0])

    lines = [
        f"# The bubble of a pipeline, preset {preset}",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/pipeline_bubble.py --preset {preset} --rounds {rounds}`",
        f"- machine: {cpu_name()}, {RANKS} processes of one thread, gloo",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        f"- {len(FRAMES)} micro-batches of about {BUDGET} feature frames; utterances of {min(FRAMES)} to "
        f"{max(FRAMES)}",
        f"- link: {small * 1e3:.2f} ms for {4 * SIZES[0] / 1e3:.0f} kB, "
        f"{large * 1e3:.2f} ms for {4 * SIZES[1] / 1e6:.1f} MB",
        "",
        "## Two stages, or two on each rank: measured and simulated",
        "",
        "| schedule | cut by | pieces | step, ms | simulated, ms | difference | bubble | simulated |",
        "|---|---|---|---|---|---|---|---|",
    ]
    steps = {}
    for way in ways:
        if way.degree != RANKS:
            continue
        said = forecast(way, taken, model, link)
        steps[way], bubble = measured([found[rank][0][way] for rank in range(RANKS)])
        lines.append(
            f"| {way.schedule} | {way.cut} | {sizes(way, model)} | {steps[way] * 1e3:.0f} | "
            f"{said.seconds * 1e3:.0f} | {said.seconds / steps[way] - 1:+.1%} | {bubble:.1%} | "
            f"{said.bubble:.1%} |"
        )
    for schedule in SCHEDULES:
        pair = [steps.get(Way(schedule, by, RANKS)) for by in ("blocks", "cost")]
        if pair[0] and pair[1]:
            lines += [
                "",
                f"{schedule}: equal numbers of blocks take {pair[0] / pair[1]:.3f} of the step by cost.",
            ]
    lines += [
        "",
        "## Four ranks: simulated from measured passes",
        "",
        "| schedule | cut by | pieces | step, ms | bubble | of an even split without waiting |",
        "|---|---|---|---|---|---|",
    ]
    for way in ways:
        if way.degree != RANKS:
            said = forecast(way, taken, model, link)
            ideal = sum(said.busy) / way.degree
            lines.append(
                f"| {way.schedule} | {way.cut} | {sizes(way, model)} | {said.seconds * 1e3:.0f} | "
                f"{said.bubble:.1%} | {said.seconds / ideal:.2f} |"
            )
    return "\n".join(lines) + "\n"


def sizes(way: Way, model: FastConformerCTC) -> str:
    """How many pieces each stage has."""
    return " ".join(str(len(stage)) for stage in way.stages(model))


def main() -> None:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="base")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = report(options.preset, options.rounds)
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
