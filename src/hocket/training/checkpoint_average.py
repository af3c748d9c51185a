"""The uniform average of a run's last checkpoints.

Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018; over
checkpoints of one run at the end of training it is as old as Kaldi's recipes. Checkpoints hold whole
tensors whatever layout wrote them, so the average is the same under every layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hocket.core.errors import CheckpointError, RunError, UsageError
from hocket.core.held import Held
from hocket.corpus.tokens import Tokens
from hocket.model import store
from hocket.training import averaging, checkpoint_store
from hocket.training.folder import RunFolder

MODEL = "model."
"""Of the weights in a checkpoint."""


@dataclass(frozen=True)
class Averaged:
    """A model made of checkpoints."""

    out: Path
    checkpoints: tuple[Path, ...]
    weights_sha256: str


def last_checkpoints(runs: Sequence[Path], last: int) -> list[Path]:
    """The last ``last`` checkpoints of each run; raises :class:`CheckpointError` when one has fewer."""
    found = []
    for run in runs:
        whole = checkpoint_store.whole_checkpoints(RunFolder(run).checkpoints)
        if len(whole) < last:
            raise CheckpointError(
                f"{run}: it holds {len(whole)} checkpoints, not {last}",
                "Train with a larger checkpoint.keep_last, or average fewer with --last.",
            )
        found += whole[-last:]
    return found


def mean_weights(
    checkpoints: Sequence[Path], names: Collection[str] | None = None, *, ema: bool = False
) -> Iterator[tuple[str, torch.Tensor]]:
    """The mean of each tensor of a model over checkpoints, summed in float64, checked by their hashes.

    Only some tensors are in memory at a time. ``names`` are those that the model must have, without them
    those of the first checkpoint. With ``ema`` of the moving averages where a checkpoint holds them. Raises
    :class:`CheckpointError` for a damaged checkpoint, and for one of another model.
    """
    opened: list[checkpoint_store.StoredTensors] = []
    for folder in checkpoints:
        checkpoint_store.verify(folder)
        stored = checkpoint_store.StoredTensors(folder)
        own = sorted(name.removeprefix(MODEL) for name in stored if name.startswith(MODEL))
        names = sorted(own if names is None else names)
        if own != names or any(
            stored.shapes[MODEL + name] != opened[0].shapes[MODEL + name] for name in names if opened
        ):
            raise CheckpointError(f"{folder}: a checkpoint of another model", "Average runs of one recipe.")
        if ema and not any(name.startswith(averaging.PREFIX) for name in stored):
            raise CheckpointError(f"{folder}: it holds no moving average", "Leave out --ema.")
        opened.append(stored)
    for read in zip(*(_weights(stored, names or (), ema) for stored in opened), strict=True):
        name, kind = read[0][0], read[0][1].dtype
        yield name, (torch.stack([value.double() for _, value in read]).sum(0) / len(read)).to(kind)


def _weights(
    stored: checkpoint_store.StoredTensors, names: Collection[str], ema: bool
) -> Iterator[tuple[str, torch.Tensor]]:
    averages = {name: averaging.PREFIX + name for name in names} if ema else {}
    sources = {key if (key := averages.get(name, "")) in stored else MODEL + name: name for name in names}
    for source, value in stored.each(sources):
        yield sources[source], value


def load_mean(checkpoints: Sequence[Path], held: Sequence[Held]) -> None:
    """Give a rank its part of the mean of each tensor."""
    of_name = {each.name: each for each in held}
    with torch.no_grad():
        for name, mean in mean_weights(checkpoints):
            if name in of_name:
                of_name[name].tensor.copy_(of_name[name].place.cut(mean))


def average(runs: Sequence[Path], out: Path, *, last: int, ema: bool = False) -> Averaged:
    """Write the model that is the average of the runs' last checkpoints, as a folder for recognition.

    Several runs must have one recipe and one beginning (``init``, seed): averages of runs that went
    different ways recognise nothing.
    """
    if out.exists():
        raise UsageError(f"{out}: it is there already", "Name another folder with --out.")
    folder = RunFolder(runs[0]).model
    if not (folder / store.CONFIG).is_file():
        raise RunError(f"{runs[0]}: the run has no model yet", "Let it end, or go on with --resume.")
    model = store.load(folder)
    checkpoints = last_checkpoints(runs, last)
    model.load_state_dict(dict(mean_weights(checkpoints, model.state_dict(), ema=ema)))
    extra = dict(store.read_config(folder).get("extra", {}))
    extra["averaged"] = [f"{path.parent.parent.name}/{path.name}" for path in checkpoints]
    store.save(out, model, extra)
    Tokens.load(folder).save(out)
    return Averaged(out, tuple(checkpoints), store.weights_sha256(model))
