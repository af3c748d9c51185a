"""The strategies by name: one line each."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hocket.core.protocols import SyncStrategy
from hocket.core.recipe import by_name
from hocket.sync.all_reduce import AllReduceSettings
from hocket.sync.exact import ExactAllReduce
from hocket.sync.gossip import GossipSettings
from hocket.sync.hogwild import HogwildSettings
from hocket.sync.local_sgd import LocalSgdSettings
from hocket.sync.server import ServerSettings
from hocket.sync.settings import SyncBase, SyncContext

Forms = (
    AllReduceSettings  # the sum of gradients, at every step
    | LocalSgdSettings  # the mean of replicas, every few steps
    | ServerSettings  # gradients to a parameter server, weights from it
    | GossipSettings  # the mean with one neighbour at a time
    | HogwildSettings  # the same memory, without locks
)

SyncSettings = Annotated[Annotated[Forms, Field(discriminator="name")], by_name("all_reduce")]
"""The ``sync`` section of a recipe."""


def make_strategy(settings: SyncBase, context: SyncContext, *, exact: bool) -> SyncStrategy:
    """The strategy of a recipe along the axis ``dp_replicate``."""
    if exact:
        return ExactAllReduce(context.communicator, max_grad_norm=context.max_grad_norm)
    return settings.make(context)
