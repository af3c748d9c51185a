"""How this process gets and gives back memory.

glibc hands large blocks back to the system as soon as they are freed, and asks for them again a
moment later; the system then clears every page anew. A train step frees and asks for the same
blocks hundreds of times. It pays where batches have few shapes; where they have many, another
allocator does (:mod:`hocket.hardware.libraries`).
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of parameters in glibc's ``malloc.h``."""
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""More is refused on 64-bit systems (mallopt(3))."""
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep what this process frees; False where that cannot be set (not glibc)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = ((_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), (_TRIM_THRESHOLD, _NEVER_TRIM))
    return all(mallopt(name, value) == 1 for name, value in wanted)
