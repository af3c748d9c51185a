"""What NVML says of an accelerator, by a stand-in for the package: none of this needs a GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hocket.hardware import accelerators


class NVMLError(Exception):
    """As the package raises it."""


class FakeNvml:
    """An accelerator with ``links`` active NVLinks of a version."""

    NVMLError = NVMLError

    def __init__(self, links: int, version: int = 4) -> None:
        self.links, self.version, self.open = links, version, False

    def nvmlInit(self) -> None:  # noqa: N802
        self.open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open = False

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> str:  # noqa: N802
        assert uuid == b"GPU-1234"  # numbers of devices differ where some are hidden
        return "handle"

    def nvmlDeviceGetNvLinkState(self, _handle: str, number: int) -> int:  # noqa: N802
        if number >= 18:
            raise NVMLError("no such link")
        return int(number < self.links)

    def nvmlDeviceGetNvLinkVersion(self, _handle: str, _number: int) -> int:  # noqa: N802
        return self.version

    def nvmlDeviceGetMaxPcieLinkGeneration(self, _handle: str) -> int:  # noqa: N802
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, _handle: str) -> int:  # noqa: N802
        return 16

    def nvmlDeviceGetEnforcedPowerLimit(self, _handle: str) -> int:  # noqa: N802
        return 700_000


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    properties: Any = SimpleNamespace(uuid="1234")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: properties)


@pytest.mark.usefixtures("device")
def test_links_are_added_up_and_power_is_in_watts(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(links=18)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    told, why_not = accelerators.ask(0)
    assert why_not is None
    assert told.power_watts == 700
    assert [(link.name, link.bytes_per_second) for link in told.links] == [
        ("NVLink 4 x18", 450e9),
        ("PCIe 5 x16", pytest.approx(63e9, rel=0.01)),
    ]
    assert not nvml.open


@pytest.mark.usefixtures("device")
def test_a_card_without_nvlink_has_its_slot_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(links=0))
    told, _ = accelerators.ask(0)
    assert [link.name for link in told.links] == ["PCIe 5 x16"]


def test_it_says_when_the_package_or_the_driver_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    told, why_not = accelerators.ask(0)
    assert (told.links, told.power_watts) == ((), None)
    assert why_not is not None
    assert "pip install 'hocket[nvml]'" in why_not
    broken = FakeNvml(links=0)

    def fail() -> None:
        raise NVMLError("Driver Not Loaded")

    monkeypatch.setattr(broken, "nvmlInit", fail)
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    _, why_not = accelerators.ask(0)
    assert why_not is not None
    assert "Driver Not Loaded" in why_not
