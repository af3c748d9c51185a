"""The whole state of a run in one process: between checkpoints, a model, and flat vectors."""

from __future__ import annotations

from pathlib import Path

import torch

from hocket.core.protocols import Replica
from hocket.parallel.held import held_by
from hocket.sync.flat import FlatState, OptimiserSpec, Span, flatten_weights, spans
from hocket.sync.leased import only_bucket
from hocket.training.checkpoint_store import Tensors
from hocket.training.checkpointer import restore
from hocket.training.optimiser import make_optimiser
from hocket.training.recipe import OptimiserSettings


def spec_of(settings: OptimiserSettings) -> OptimiserSpec:
    """The recipe's optimiser, as strategies that keep it elsewhere make it."""
    return OptimiserSpec("adamw", settings.betas, settings.weight_decay)


class Template:
    """The model as it is at the last consistent point, with the optimiser's state beside it."""

    def __init__(self, replica: Replica, settings: OptimiserSettings) -> None:
        self.replica, self._settings = replica, settings
        self._bucket = only_bucket(replica)
        self._weights = flatten_weights(self._bucket)
        self.spec = spec_of(settings)
        self.state = FlatState(
            self._weights, {name: torch.zeros_like(self._weights) for name in self.spec.slots}
        )

    @property
    def model(self) -> torch.nn.Module:
        """The model; its trainable parameters are views into ``state.weights``."""
        return self.replica.model

    @property
    def layout(self) -> list[Span]:
        """Where each parameter lies."""
        return spans(self._bucket)

    @property
    def max_payload(self) -> int:
        """Bytes that no message exceeds: the state, and some more."""
        return (1 + len(self.spec.slots)) * self._weights.nbytes + (1 << 20)

    def set(self, state: FlatState) -> None:
        """Copy a state in."""
        self.state.weights.copy_(state.weights)
        for name, value in self.state.slots.items():
            value.copy_(state.slots[name])
        self.state.num_updates = state.num_updates

    def restore(self, checkpoint: Path) -> None:
        """Take up a checkpoint of any strategy, on any number of workers."""
        held = held_by(self.model)
        optimiser = make_optimiser(held, self._settings)
        restore(checkpoint, held, optimiser)
        self.state.num_updates = 0.0
        for name, flat in self.state.slots.items():
            for parameter, (_, view) in zip(self._bucket.parameters, self._bucket.views(flat), strict=True):
                kept = optimiser.state.get(parameter, {})
                if name in kept:
                    view.copy_(kept[name])
                    self.state.num_updates = float(kept["step"])
                else:
                    view.zero_()

    def tensors(self) -> Tensors:
        """All tensors of a checkpoint, under the names that every strategy uses."""
        tensors: Tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.state.num_updates:
            for slot, flat in self.state.slots.items():
                tensors.update({f"optimiser.{slot}.{name}": view for name, view in self._bucket.views(flat)})
            for name in self._bucket.names:
                tensors[f"optimiser.step.{name}"] = torch.tensor(self.state.num_updates)
        return tensors
