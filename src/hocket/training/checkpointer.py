"""Taking checkpoints while training goes on, and keeping the last and the best of them."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from hocket.core.errors import CheckpointError
from hocket.core.held import Held, Part
from hocket.core.layout import INSIDE
from hocket.core.protocols import SyncStrategy
from hocket.sync.state import Within
from hocket.training import checkpoint_store as store
from hocket.training.averaging import Average, NoAverage
from hocket.training.checkpoint_store import Parts
from hocket.training.recipe import CheckpointSettings
from hocket.training.seat import Seat

_NO_AVERAGE = NoAverage()
_ALONE = Seat()
_OF_SPLIT = re.compile(r"sync\.(?:(?:pp|dp_shard|sp|tp)\d+-?)+\.\d+\.")
"""Names of what a strategy kept of a split replica."""


class Checkpointer:
    """Saves in a thread of its own, over a process group of its own, one checkpoint at a time.

    Without torch.distributed it is one process that saves all.

    ``save`` copies the tensors and returns. A failure (a full disk) leaves the earlier checkpoints
    as they are; it is told to ``on_done`` and raised by :meth:`wait` only.
    """

    def __init__(
        self, root: Path, settings: CheckpointSettings, on_done: Callable[[int, BaseException | None], None]
    ) -> None:
        self._root, self._settings, self._on_done = root, settings, on_done
        alone = not dist.is_initialized()
        self._leads = alone or dist.get_rank() == 0
        self._group = None if alone else dist.new_group(backend="gloo")
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        if self._leads:
            root.mkdir(parents=True, exist_ok=True)
            for torn in root.glob(".*.tmp"):
                shutil.rmtree(torn, ignore_errors=True)

    def save(self, step: int, tensors: Parts, progress: dict[str, Any]) -> None:
        """Take the state before optimiser step ``step``; every rank must call with the same step."""
        self.settle()
        staged = {name: _staged(tensor) for name, tensor in tensors.items()}
        self._thread = threading.Thread(target=self._save, args=(step, staged, progress), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return when the last checkpoint is on disk; raise when it could not be written."""
        self.settle()
        if self._failure is not None:
            raise CheckpointError(
                f"{self._root}: the last checkpoint could not be written: {_reason(self._failure)}; "
                f"{shutil.disk_usage(self._root).free >> 20} MiB are free there",
                "Free some space; the earlier checkpoints are whole, so --resume goes on from them.",
            ) from self._failure

    def settle(self) -> None:
        """Return when no checkpoint is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _save(self, step: int, tensors: Parts, progress: dict[str, Any]) -> None:
        final = store.folder_for(self._root, step)
        temporary = final.with_name(f".{final.name}.tmp")
        self._failure = None
        try:
            store.write_tensors(temporary, tensors, self._group)
            if self._leads:
                store.seal(temporary, final, progress)
                self._prune()
        except (Exception, CheckpointException) as error:
            # Whatever a full disk or a lost peer raises (torch's own is no Exception): the run goes on.
            self._failure = error
            if self._leads:
                shutil.rmtree(temporary, ignore_errors=True)
        self._on_done(step, self._failure)

    def _prune(self) -> None:
        """Keep the last ones, and those with the lowest metric among the validated."""
        folders = store.whole_checkpoints(self._root)
        keep = set(folders[-self._settings.keep_last :])
        validated = [
            (metric, folder)
            for folder in folders
            if (metric := store.read_progress(folder).get("metric")) is not None
        ]
        keep.update(folder for _, folder in sorted(validated)[: self._settings.keep_best])
        for folder in folders:
            if folder not in keep:
                store.remove(folder)


def _staged(value: torch.Tensor | Part) -> torch.Tensor | Part:
    if isinstance(value, Part):
        return Part(value.tensor.detach().to("cpu", copy=True), value.place)
    return value.detach().to("cpu", copy=True)


def collect(
    held: Sequence[Held],
    optimiser: torch.optim.Optimizer,
    sync: SyncStrategy,
    seat: Seat = _ALONE,
    average: Average = _NO_AVERAGE,
) -> dict[str, torch.Tensor | Part]:
    """All tensors of a checkpoint under flat names: ``model.*``, ``optimiser.*``, ``sync.*``, ``ema.*``.

    An optimiser state of each replica's own stands under ``optimiser@REPLICA.*``. What a strategy keeps of
    a replica that is split stands under ``sync.LAYOUT.RANK.*``, and can be taken up under the same alone.
    """
    tensors: dict[str, torch.Tensor | Part] = {
        f"model.{each.name}": Part(each.tensor, each.place) for each in held
    }
    by_tensor = {each.tensor: each for each in held}
    head = f"optimiser@{seat.replica}" if sync.per_replica_optimiser else "optimiser"
    for parameter, state in optimiser.state.items():
        each = by_tensor[parameter]
        for slot, value in state.items():
            value = torch.as_tensor(value)
            alike = value.shape == parameter.shape
            tensors[f"{head}.{slot}.{each.name}"] = Part(value, each.place) if alike else value
    tensors.update({f"{_sync_head(seat)}{name}": value for name, value in sync.state_dict().items()})
    tensors.update(average.tensors())
    return tensors


def _sync_head(seat: Seat) -> str:
    split = [f"{axis}{getattr(seat.layout, axis)}" for axis in INSIDE if getattr(seat.layout, axis) > 1]
    return f"sync.{'-'.join(split)}.{seat.inside}." if split else "sync."


def restore(
    folder: Path,
    held: Sequence[Held],
    optimiser: torch.optim.Optimizer,
    seat: Seat = _ALONE,
    *,
    per_replica_optimiser: bool = False,
    average: Average = _NO_AVERAGE,
) -> Mapping[str, torch.Tensor]:
    """Load model, optimiser and average in place; return what ``sync`` had kept. Hashes are checked first.

    Each rank reads what it holds, under whatever layout it was written. Where each replica had an
    optimiser state of its own, the same number of replicas takes them up again if they may differ
    (``per_replica_optimiser``); otherwise all take their mean.

    Raises :class:`CheckpointError` when the checkpoint is damaged or of another model.
    """
    store.verify(folder)
    stored = store.StoredTensors(folder)
    own = {f"model.{each.name}": each.place.shape for each in held}
    saved = {name: shape for name, shape in stored.shapes.items() if name.startswith("model.")}
    # A stage of a pipeline lacks what other stages hold.
    for name in sorted(own.keys() | saved.keys() if seat.layout.pp == 1 else own.keys()):
        if own.get(name) != saved.get(name):
            raise CheckpointError(
                f"{folder}: a checkpoint of another model: {name.removeprefix('model.')} is "
                f"{saved.get(name, 'missing')} there and {own.get(name, 'missing')} here",
                "Use the recipe that the run was started with, or start a run in another folder.",
            )
    of_name = {each.name: each for each in held}
    with torch.no_grad():
        for name, whole in stored.each(own):
            each = of_name[name.removeprefix("model.")]
            each.tensor.copy_(each.place.cut(whole))
    heads = sorted({name.partition(".")[0] for name in stored if name.startswith("optimiser")})
    if per_replica_optimiser and len(heads) == seat.layout.dp_replicate > 1:
        heads = [f"optimiser@{seat.replica}"]
    _restore_optimiser(stored, heads, of_name, optimiser)
    average.take_up(stored)
    return _kept_by_sync(folder, stored, seat)


def _kept_by_sync(folder: Path, stored: store.StoredTensors, seat: Seat) -> Mapping[str, torch.Tensor]:
    head = _sync_head(seat)
    kept = [name for name in stored if name.startswith("sync.")]
    mine = [name for name in kept if name.startswith(head)]
    if head == "sync.":
        mine = [name for name in kept if not _OF_SPLIT.match(name)]
    if kept and not mine:
        raise CheckpointError(
            f"{folder}: what its sync strategy kept belongs to another way of splitting the model: {kept[0]}",
            "Go on under the layout of the run; a strategy that keeps nothing (all_reduce without "
            "compression) goes on under any.",
        )
    return Within(stored, head)


def _restore_optimiser(
    stored: store.StoredTensors,
    heads: list[str],
    of_name: Mapping[str, Held],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Fill the optimiser's state with the mean of those under ``heads``, one after another."""
    stepped = {parameter for group in optimiser.param_groups for parameter in group["params"]}
    for head in heads:
        names = [name for name in stored if name.startswith(f"{head}.")]
        mine = {key: _slot_of(key, head) for key in names}
        mine = {
            key: (slot, name)
            for key, (slot, name) in mine.items()
            if name in of_name and of_name[name].tensor in stepped
        }
        for key, whole in stored.each(mine):
            slot, name = mine[key]
            parameter, place = of_name[name].tensor, of_name[name].place
            value = place.cut(whole) if whole.shape == place.shape else whole
            part = value.to(parameter.device) / len(heads)
            state = optimiser.state[parameter]
            state[slot] = state[slot] + part if head != heads[0] else part


def _slot_of(key: str, head: str) -> tuple[str, str]:
    slot, _, name = key.removeprefix(f"{head}.").partition(".")  # slots have no dot
    return slot, name


def _reason(error: BaseException) -> str:
    """The last line of an error's text: torch puts whole tracebacks before it."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
