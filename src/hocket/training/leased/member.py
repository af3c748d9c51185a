"""What :class:`hocket.training.leased.crew.Crew` forks: a worker, or a shard of the parameter server."""

from __future__ import annotations

import sys

# What is imported when first used elsewhere is imported here, before members are forked.
import scipy.signal  # noqa: F401

from hocket.comms.supervision import name_process
from hocket.sync import shard_process
from hocket.training.leased import worker


def main() -> None:
    """Be what the first argument says: ``worker RUN RANK`` or ``shard RUN INDEX``."""
    role, _, number = sys.argv[1:4]
    del sys.argv[1]
    name_process(f"hkt {role} {number}")
    (shard_process if role == "shard" else worker).main()
