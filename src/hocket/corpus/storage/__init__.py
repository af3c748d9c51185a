"""Recordings that lie in shards, from wherever they are nearest.

From far to near: :mod:`.stores` answers requests for bytes, :mod:`.fetching` asks until it has an answer
whose checksums hold, :mod:`.shard_source` makes blocks of that, :mod:`.block_cache` keeps them on this host's
disk and :mod:`.block_memory` in this process. :mod:`.read_ahead` moves them nearer before they are needed,
:mod:`.recordings` is what loading asks, and :mod:`.meter` counts.
"""
