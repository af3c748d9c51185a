"""What the driver says of accelerators: links and power through NVML, where the package pynvml is there.

https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch

from hocket.hardware.profile import Link

_PCIE = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
"""Bytes a second of one lane and direction, by generation, after encoding."""
_NVLINK = {1: 20e9, 2: 25e9, 3: 25e9, 4: 25e9, 5: 50e9}
"""Bytes a second of one link and direction, by version."""
_MOST_NVLINKS = 18


@dataclass(frozen=True)
class Told:
    """Of one accelerator."""

    links: tuple[Link, ...] = ()
    power_watts: float | None = None


def ask(index: int) -> tuple[Told, str | None]:
    """Links and power limit of torch's CUDA device ``index``, and why they are lacking, if they are."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return Told(), "no links and no power limits: pynvml is not here (pip install 'hocket[nvml]')"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Told(), f"no links and no power limits: NVML: {error}"
    try:
        uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid.encode())
        links = (*_nvlinks(nvml, handle), *_pcie(nvml, handle))
        return Told(links, nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000), None
    except nvml.NVMLError as error:
        return Told(), f"no links and no power limits: NVML: {error}"
    finally:
        nvml.nvmlShutdown()


def _nvlinks(nvml: Any, handle: Any) -> tuple[Link, ...]:
    """All active NVLinks of a device as one; none where it has none."""
    active, version = 0, 0
    for number in range(_MOST_NVLINKS):
        try:
            if nvml.nvmlDeviceGetNvLinkState(handle, number):
                active += 1
                version = nvml.nvmlDeviceGetNvLinkVersion(handle, number)
        except nvml.NVMLError:
            break  # there are no more
    rate = _NVLINK.get(version)
    return () if not active or rate is None else (Link(f"NVLink {version} x{active}", active * rate),)


def _pcie(nvml: Any, handle: Any) -> tuple[Link, ...]:
    generation = nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)
    lanes = nvml.nvmlDeviceGetMaxPcieLinkWidth(handle)
    rate = _PCIE.get(generation)
    return () if rate is None else (Link(f"PCIe {generation} x{lanes}", lanes * rate),)
