"""Taking checkpoints while training goes on, and keeping the last and the best of them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from hocket.comms.communicator import Communicator
from hocket.core.errors import CheckpointError
from hocket.core.protocols import SyncStrategy
from hocket.sync.state import Within
from hocket.training import checkpoint_store as store
from hocket.training.averaging import Average, NoAverage
from hocket.training.checkpoint_store import Tensors
from hocket.training.recipe import CheckpointSettings

_NO_AVERAGE = NoAverage()


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

    def save(self, step: int, tensors: Tensors, progress: dict[str, Any]) -> None:
        """Take the state before optimiser step ``step``; every rank must call with the same step."""
        self.settle()
        staged = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
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

    def _save(self, step: int, tensors: Tensors, progress: dict[str, Any]) -> None:
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
                shutil.rmtree(folder, ignore_errors=True)


def collect(
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    sync: SyncStrategy,
    rank: int,
    average: Average = _NO_AVERAGE,
) -> Tensors:
    """All tensors of a checkpoint under flat names: ``model.*``, ``optimiser.*``, ``sync.*``, ``ema.*``.

    An optimiser state of each replica's own stands under ``optimiser@RANK.*``.
    """
    tensors: Tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    head = f"optimiser@{rank}" if sync.per_replica_optimiser else "optimiser"
    for parameter, state in optimiser.state.items():
        for slot, value in state.items():
            tensors[f"{head}.{slot}.{names[parameter]}"] = torch.as_tensor(value)
    tensors.update({f"sync.{name}": value for name, value in sync.state_dict().items()})
    tensors.update(average.tensors())
    return tensors


def restore(
    folder: Path,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    replicas: Communicator,
    *,
    per_replica_optimiser: bool,
    average: Average = _NO_AVERAGE,
) -> Mapping[str, torch.Tensor]:
    """Load model, optimiser and average in place; return what ``sync`` had kept. Hashes are checked first.

    Where each replica had an optimiser state of its own, the same number of replicas takes them up
    again if they may differ (``per_replica_optimiser``); otherwise all take their mean.

    Raises :class:`CheckpointError` when the checkpoint is damaged or of another model.
    """
    store.verify(folder)
    stored = store.StoredTensors(folder)
    own = {f"model.{name}": tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    saved = {name: shape for name, shape in stored.shapes.items() if name.startswith("model.")}
    for name in sorted(own.keys() | saved.keys()):
        if own.get(name) != saved.get(name):
            raise CheckpointError(
                f"{folder}: a checkpoint of another model: {name.removeprefix('model.')} is "
                f"{saved.get(name, 'missing')} there and {own.get(name, 'missing')} here",
                "Use the recipe that the run was started with, or start a run in another folder.",
            )
    loaded = stored.read(own)
    model.load_state_dict({name.removeprefix("model."): value for name, value in loaded.items()})
    heads = sorted({name.partition(".")[0] for name in stored if name.startswith("optimiser")})
    if per_replica_optimiser and len(heads) == replicas.world_size > 1:
        heads = [f"optimiser@{replicas.rank}"]
    _restore_optimiser(stored, heads, dict(model.named_parameters()), optimiser)
    average.take_up(stored)
    return Within(stored, "sync.")


def _restore_optimiser(
    stored: store.StoredTensors,
    heads: list[str],
    parameters: dict[str, torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Fill the optimiser's state with the mean of those under ``heads``, one after another."""
    for head in heads:
        for key, value in stored.read(name for name in stored if name.startswith(f"{head}.")).items():
            slot, _, name = key.removeprefix(f"{head}.").partition(".")  # slots have no dot
            state = optimiser.state[parameters[name]]
            part = value.to(parameters[name].device) / len(heads)
            state[slot] = state[slot] + part if head != heads[0] else part


def _reason(error: BaseException) -> str:
    """The last line of an error's text: torch puts whole tracebacks before it."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
