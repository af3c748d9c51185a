"""What a recognition is planned for: this machine, another one's profile, or hardware from the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hocket.hardware import profile
from hocket.hardware.device import choose_device
from hocket.hardware.profile import MachineProfile
from hocket.planning.candidate import Cluster
from hocket.planning.nominal import ACCELERATOR, PROCESSOR, rates_of
from hocket.planning.recognizing import rates
from hocket.planning.recognizing.forecast import Site
from hocket.planning.recognizing.rates import WAYS, RecognitionRates, Way
from hocket.recognition import measuring
from hocket.studies.planning.machines import (
    Ground,
    Told,
    again_if_noisy,
    catalogued,
    elsewhere,
    is_here,
    known_here,
    of_profile,
    of_rates,
)

_ON_GPU = "hocket runs ONNX on CPUs alone"


def sites_for(
    hardware: Sequence[str],
    reading: float,
    *,
    price: float | None = None,
    cache: Path,
    device: str = "auto",
    again: bool = False,
    told: Told = lambda what, done, of: None,
) -> tuple[list[Site], list[str]]:
    """What each ``--hardware`` means, this machine if there is none, and notes on where figures are from.

    Each is a file of ``hocket probe``, ``NAME:NODESxDEVICES`` with a name from the catalogue, or a name
    alone for as many devices as are needed. ``reading`` are seconds of a core for a second of audio,
    ``price`` what a device costs in an hour instead of what the hardware's profile says. ``cache`` keeps
    what was measured of this machine, and ``again`` measures anew. Raises
    :class:`~hocket.core.errors.UsageError` for what is not known.
    """
    texts: list[str | None] = [*hardware] or [None]
    found = [_site(each, reading, price, cache, device, again, told) for each in texts]
    notes = [note for _, each in found for note in each]
    notes.append(
        "to read, decode and turn a second of speech into features is taken to need "
        f"{1000 * reading:.2g} ms of a core, as was just measured here"
    )
    return [site for site, _ in found], list(dict.fromkeys(notes))


def _site(
    text: str | None, reading: float, price: float | None, cache: Path, device: str, again: bool, told: Told
) -> tuple[Site, list[str]]:
    path = None if text is None else Path(text)
    if path is None or path.suffix == ".json" or path.is_file():
        known = None if path is None else profile.read(path)
        if known is None or is_here(known):
            return _here(known_here(known, cache, again, told), reading, price, cache, device, again, told)
        return _on_paper(elsewhere(known), reading, price)
    assert text is not None
    if ":" in text:
        return _on_paper(catalogued(text, job="recognition"), reading, price)
    ground = catalogued(f"{text}:1x1", job="recognition")
    site, notes = _on_paper(ground, reading, price, unlimited=text)
    return site, notes


def _here(
    known: MachineProfile,
    reading: float,
    price: float | None,
    cache: Path,
    device: str,
    again: bool,
    told: Told,
) -> tuple[Site, list[str]]:
    kind = choose_device(device).type
    file = cache / f"recognition-{kind}.json"
    if again or not file.exists():
        measuring.measure(file, kind, of_rates(told))
    measured = rates.read(file)
    if measured.machine.get("cpu") != known.host.cpu or measured.machine.get("torch") != known.host.torch:
        measuring.measure(file, kind, of_rates(told))
        measured = rates.read(file)
    ground = of_profile(known, rates_of({"fp32": 1.0}, 1.0), kind, 1, None, ())
    readers = None if kind == "cpu" else max(1, known.host.cores // known.device.count)
    lacking = {way: measured.lacking[str(way)] for way in WAYS if str(way) in measured.lacking}
    site = _of_cluster(ground.cluster, measured.rates, reading, price, lacking, readers=readers)
    return site, [
        f"rates of this machine: {file}, measured by recognising noise with small models; over those runs "
        f"they are right to {100 * measured.rates.spread:.0f} % in the median",
        *known.notes,
        *again_if_noisy(known),
    ]


def _on_paper(
    ground: Ground, reading: float, price: float | None, unlimited: str | None = None
) -> tuple[Site, list[str]]:
    """From peaks at the efficiencies that training is planned with."""
    cluster = ground.cluster
    on_gpu = cluster.device != "cpu"
    ways = tuple(way for way in WAYS if not on_gpu or way.backend == "torch")
    made = rates.nominal(cluster.peaks, ACCELERATOR if on_gpu else PROCESSOR, ways)
    lacking = {way: _ON_GPU for way in WAYS if way not in ways}
    site = _of_cluster(cluster, made, reading, price, lacking, unlimited)
    starting = f"workers on {site.name} are taken to be ready after {made.starting:g} s"
    one_kernel = "ONNX Runtime is taken to be as fast as torch there; measure before you choose it"
    own = [note for note in ground.notes if "--network" not in note]
    return site, [*own, starting, *([] if on_gpu else [one_kernel])]


def _of_cluster(
    cluster: Cluster,
    made: RecognitionRates,
    reading: float,
    price: float | None,
    lacking: Mapping[Way, str],
    unlimited: str | None = None,
    readers: int | None = None,
) -> Site:
    return Site(
        name=unlimited or cluster.name,
        rates=made,
        per_host=cluster.per_host if unlimited is None or cluster.device == "cpu" else _PER_HOST,
        num_devices=None if unlimited is not None else cluster.num_devices,
        device=cluster.device,
        memory_bytes=cluster.memory_bytes,
        base_bytes=cluster.base_bytes,
        reading=reading,
        readers=readers,
        crowding=cluster.crowding,
        price_per_hour=cluster.price_per_hour if price is None else price,
        watts=cluster.watts,
        lacking=lacking,
    )


_PER_HOST = 8
"""Accelerators of a host, where nobody says."""
