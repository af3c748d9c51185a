"""Where the weights live between workers: on shards, with the workers themselves, in shared memory."""

from hocket.training.leased.keepers.memory import Memory
from hocket.training.leased.keepers.neighbours import Neighbours
from hocket.training.leased.keepers.protocols import Hub, Keeper, Member, ShardGone
from hocket.training.leased.keepers.shards import Shards

__all__ = ["Hub", "Keeper", "Member", "Memory", "Neighbours", "ShardGone", "Shards"]
