"""The strategies by name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hocket.comms.communicator import Communicator
from hocket.core.protocols import SyncStrategy
from hocket.core.recipe import Section
from hocket.sync.all_reduce import AllReduce
from hocket.sync.exact import ExactAllReduce


class SyncSettings(Section):
    """How replicas agree."""

    name: Literal["all_reduce"] = "all_reduce"

    bucket_mb: float = Field(default=4.0, gt=0)
    """Megabytes of gradients that are sent as one; smaller ones overlap earlier, larger ones cost less."""


def make_strategy(
    settings: SyncSettings, communicator: Communicator, *, max_grad_norm: float, exact: bool
) -> SyncStrategy:
    """The strategy of a recipe along the axis ``dp_replicate``."""
    if exact:
        return ExactAllReduce(communicator, max_grad_norm=max_grad_norm)
    return AllReduce(communicator, max_grad_norm=max_grad_norm)
