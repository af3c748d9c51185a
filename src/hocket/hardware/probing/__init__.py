"""Measuring a machine: ``probe`` starts workers, each with one thread, and makes a profile of what they say.

Every measurement is done once in each of several rounds, so that its samples lie minutes apart, not
milliseconds: their range then holds what the machine does to it in between.
"""

from hocket.hardware.probing.launch import default_workers, probe
from hocket.hardware.probing.settings import ProbeSettings

__all__ = ["ProbeSettings", "default_workers", "probe"]
