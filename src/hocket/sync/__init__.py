"""Between replicas: how they come to agree. A strategy is one file and one line in the table."""

from hocket.sync.all_reduce import AllReduceSettings
from hocket.sync.settings import SyncBase, SyncContext
from hocket.sync.table import SyncSettings, make_strategy

__all__ = ["AllReduceSettings", "SyncBase", "SyncContext", "SyncSettings", "make_strategy"]
