"""A process keeps the memory that it frees."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from hocket.hardware.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

torch.set_num_threads(1)
assert keep_freed_memory()


def step():
    blocks = [torch.ones(2**20) for _ in range(16)]  # 4 MiB each, as activations are


for _ in range(3):
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""


def faults() -> int:
    """Page faults of five steps."""
    command = [sys.executable, "-c", PROGRAM]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_a_block_that_was_freed_is_not_asked_of_the_system_again() -> None:
    assert faults() < 1_000  # of 81,920 pages that were freed and used again
