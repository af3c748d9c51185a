"""Between replicas: how they come to agree. A strategy is one file and one line in the table."""

from hocket.sync.table import SyncSettings, make_strategy

__all__ = ["SyncSettings", "make_strategy"]
