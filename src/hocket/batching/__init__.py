"""How work is cut into micro-batches and dealt to ranks: pure functions on arrays.

The number of workers is an argument of :func:`assign` and :func:`deal` alone, and what they return never
changes which utterances share a micro-batch.
"""

from hocket.batching.assign import assign, imbalance
from hocket.batching.budget import cut_by_budget
from hocket.batching.deal import Deal, deal
from hocket.batching.mixture import Part
from hocket.batching.plan import BatchPlan
from hocket.batching.settings import BatchSettings

__all__ = ["BatchPlan", "BatchSettings", "Deal", "Part", "assign", "cut_by_budget", "deal", "imbalance"]
