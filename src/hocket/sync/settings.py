"""What all strategies have in common: their settings, and what they are made from."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from pydantic import Field

from hocket.comms.communicator import Communicator
from hocket.core.protocols import SyncStrategy
from hocket.core.recipe import Section


@dataclass(frozen=True)
class SyncContext:
    """What a strategy is given of the run beside its own settings."""

    communicator: Communicator
    """Among the replicas: along the axis ``dp_replicate``."""
    max_grad_norm: float
    """Clipping norm of the gradient of the loss per token; 0 clips nothing."""
    num_steps: int
    """Steps of the whole run: a strategy must come to a consistent point at the end of the last one."""


class SyncBase(Section):
    """Settings that every strategy has. A strategy's own ``name`` tells the forms apart."""

    bucket_mb: float = Field(default=4.0, gt=0)
    """Megabytes of gradients that are sent as one; smaller ones overlap earlier, larger ones cost less."""

    @property
    def steps_to_report(self) -> int:
        """Steps after which all ranks know what came of a step, at most."""
        return 1

    @property
    def exact_instead(self) -> bool:
        """True where ``numerics.exact`` can take this strategy's place without changing what it computes."""
        return False

    @property
    def sums_gradients(self) -> bool:
        """True where all replicas step with the sum of their gradients: its norm is the step's."""
        return False

    @property
    def can_repeat(self) -> bool:
        """True where a step that one rank could not compute is skipped by all and can be taken again."""
        return False

    @abstractmethod
    def make(self, context: SyncContext) -> SyncStrategy:
        """The strategy of these settings."""
