"""From a source of any known format to a prepared folder.

::

    OUT/corpus.json            what it is, in numbers; written last: without it there is no corpus
    OUT/tokens.json            and tokens.model for SentencePiece
    OUT/SPLIT/index.arrow      for batching and loading
    OUT/SPLIT/cuts.jsonl.gz    the same for lhotse
    OUT/left_out.jsonl         every utterance that was left out, and why
    OUT/audio/                 where the importer made the audio itself
    OUT/SPLIT/shar/            the audio in tars, where shards were asked for, with places.arrow beside it

The same source, seed and settings give the same fingerprint on any machine and in any folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hocket.core import clock, files, seeds
from hocket.core.errors import CorpusError, UsageError
from hocket.corpus import audio, importers, index, manifest, report, splits, tokens
from hocket.corpus.importers.base import ImportContext, Imported, Item, LeftOut, Progress
from hocket.corpus.inspection import Limits, not_alignable, too_little_or_much
from hocket.corpus.looking import Seen, look, look_apart
from hocket.corpus.output import whole_folder
from hocket.corpus.report import PrepareReport, SplitStatistics
from hocket.corpus.shards.shar import Encoding
from hocket.corpus.shards.sharding import ShardStatistics, cut_into_shards
from hocket.corpus.text import Case, normalise

LEFT_OUT = "left_out.jsonl"
_WhyNot = Callable[[Seen], LeftOut | None]


@dataclass(frozen=True)
class PrepareSettings:
    """How a corpus is prepared. All before ``decode`` is part of what the corpus is."""

    tokens: str = "char"
    """``char``, ``char+FOLDER`` for those characters, too, ``sentencepiece:SIZE``, or a folder whose tokens
    are used again."""
    seed: int = 1
    case: Case = "keep"
    dev_fraction: float = 0.05
    """Of training, held back when the source has no dev split; 0 for none."""
    min_seconds: float = 0.1
    max_seconds: float = 40.0
    """For training alone: dev and test are scored whole."""
    subsampling: int = 4
    """Of the model that will be trained: CTC needs as many frames as tokens."""
    fastest_percent: int = 110
    """The fastest speed factor that will be drawn."""
    block_size: int = 64
    """Utterances in a block of the training order."""
    decode: bool = True
    """Read all samples to find damaged files; else headers and file sizes alone."""
    workers: int = 0
    """Processes that look at audio and write shards; 0: threads of this one."""
    shards: bool = False
    """Put the audio into shards, too."""
    shard_mb: float = 256.0
    """Size of a shard, about, in MB."""
    encode: Encoding = "keep"
    """Of the recordings in shards."""


def prepare(
    source: str,
    out: Path,
    format: str | None = None,
    settings: PrepareSettings | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Read ``source``, look at every utterance, and write the prepared folder ``out``.

    Utterances that training cannot use are left out, listed and counted; of dev and test only those
    that cannot be read are. ``out`` is whole or as it was before. Raises :class:`CorpusError` when
    the source cannot be read, holds an id twice, or nothing in it can be used, and :class:`UsageError`
    for settings that contradict each other.
    """
    settings = settings or PrepareSettings()
    if settings.encode != "keep" and not settings.shards:
        raise UsageError(f"encode: {settings.encode} is for recordings in shards", "Add --shards.")
    progress = progress or _silent
    begin = clock.monotonic()
    importer = importers.find(source, format)
    _refuse_overlap(source, out)
    with whole_folder(out, report.FILE) as folder:
        imported = importer.read(source, ImportContext(folder / "audio", settings.seed, progress))
        _refuse_duplicates(imported)
        split_names = {item.split: splits.canonical(item.split) for item in imported.items}
        items = [replace(item, split=split_names[item.split]) for item in imported.items]
        pairs = [(item, normalise(item.text, settings.case)) for item in items]
        staging = out.with_name(f".{out.name}.staging")
        if settings.workers:
            looked = look_apart(
                pairs, settings.decode, progress, workers=settings.workers, staging=staging, made=folder
            )
        else:
            looked = look(pairs, settings.decode, progress)
        corpus = _Corpus(settings, imported, looked)
        made = corpus.write(folder, out)
        if settings.shards:
            made = replace(made, shards=_shards(folder, list(made.splits), settings, staging, progress))
        result = replace(made, folder=out, seconds=round(clock.monotonic() - begin, 2))
        files.write_json(folder / report.FILE, result.as_corpus())
    shutil.rmtree(staging, ignore_errors=True)
    return result


def _shards(
    folder: Path, made: list[str], settings: PrepareSettings, staging: Path, progress: Progress
) -> dict[str, ShardStatistics]:
    return {
        split: cut_into_shards(
            folder,
            split,
            shard_mb=settings.shard_mb,
            encode=settings.encode,
            workers=max(1, settings.workers),
            staging=staging,
            progress=progress,
        )
        for split in made
    }


class _Corpus:
    """Utterances on their way from a source into a folder; the steps stand in order in ``__init__``."""

    def __init__(self, settings: PrepareSettings, imported: Imported, looked: list[Seen | LeftOut]) -> None:
        self.settings, self.name = settings, imported.name
        self.limits = Limits(
            settings.min_seconds, settings.max_seconds, settings.subsampling, settings.fastest_percent
        )
        self.notes = list(imported.notes)
        self.left_out = [*imported.broken, *(one for one in looked if isinstance(one, LeftOut))]
        self.splits: dict[str, list[Seen]] = defaultdict(list)
        for one in looked:
            if isinstance(one, Seen):
                self.splits[str(one.item.split)].append(one)
        self._note_conversions()
        self._keep(lambda seen: too_little_or_much(seen, self.limits))
        self._hold_back_dev()
        self.tokens = self._tokens()
        self.ids = {
            seen.item.id: self.tokens.encode_known(seen.text)
            for many in self.splits.values()
            for seen in many
        }
        self._keep(self._not_encodable)
        self._keep(lambda seen: not_alignable(seen, self.ids[seen.item.id], self.limits))
        self.splits = {split: many for split, many in sorted(self.splits.items()) if many}
        if not self.splits:
            raise CorpusError(f"{self.name}: no utterance can be used; {self._first_reasons()}")
        for split, many in self.splits.items():
            if splits.is_training(split):
                self.splits[split] = splits.training_order(many, settings.seed)

    def write(self, folder: Path, out: Path) -> PrepareReport:
        """Write all but ``corpus.json``. ``out`` is where ``folder`` will be."""
        self.tokens.save(folder)
        made: dict[str, SplitStatistics] = {}
        for split, many in self.splits.items():
            fingerprint = index.write(
                folder,
                split,
                (self._row(seen, folder) for seen in many),
                self.settings.block_size,
                self.tokens.fingerprint,
            )
            manifest.write(folder / split / manifest.FILE, (_cut(seen, folder, out) for seen in many))
            unknown = [seen for seen in many if self.tokens.unknown(seen.text)]
            num_tokens = sum(len(self.ids[seen.item.id]) for seen in many)
            made[split] = report.statistics(many, num_tokens, len(unknown), fingerprint)
            self._note_scored_whole(split, many, unknown)
        lines = (json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in self.left_out)
        files.write_text(folder / LEFT_OUT, "".join(lines))
        prints = {split: one.fingerprint for split, one in made.items()}
        whole = hashlib.sha256(
            json.dumps([report.VERSION, self.tokens.fingerprint, prints], sort_keys=True).encode()
        )
        return PrepareReport(
            folder=folder,
            name=self.name,
            fingerprint=whole.hexdigest()[:16],
            splits=made,
            left_out=dict(sorted(Counter(one.kind for one in self.left_out).items())),
            notes=self.notes,
            tokens={
                "kind": self.tokens.kind,
                "vocab_size": self.tokens.vocab_size,
                "fingerprint": self.tokens.fingerprint,
            },
            settings={
                name: value
                for name, value in asdict(self.settings).items()
                if name not in ("tokens", "decode", "workers", "shards", "shard_mb", "encode")
            },
            seconds=0.0,
        )

    def _keep(self, why_not: _WhyNot) -> None:
        """Leave out the training utterances that ``why_not`` has a reason against."""
        for split, many in self.splits.items():
            if splits.is_training(split):
                verdicts = [(seen, why_not(seen)) for seen in many]
                self.splits[split] = [seen for seen, reason in verdicts if reason is None]
                self.left_out.extend(reason for _, reason in verdicts if reason is not None)

    def _hold_back_dev(self) -> None:
        if self.splits.get(splits.DEV) or not self.splits.get(splits.TRAIN):
            return
        train = self.splits[splits.TRAIN]
        held, note = splits.hold_back(train, self.settings.dev_fraction, self.settings.seed)
        if held:
            self.splits[splits.TRAIN] = [seen for seen in train if seen.item.id not in held]
            self.splits[splits.DEV] = [seen for seen in train if seen.item.id in held]
            self.notes.append(note)

    def _tokens(self) -> tokens.Tokens:
        kind = self.settings.tokens
        if (Path(kind) / tokens.FILE).is_file():
            return tokens.Tokens.load(Path(kind))
        texts = [s.text for split, many in self.splits.items() if splits.is_training(split) for s in many]
        if not texts:
            raise CorpusError(
                f"{self.name}: no training utterance to make tokens from; {self._first_reasons()}",
                "Give a folder with tokens to prepare a corpus that is only recognised.",
            )
        return tokens.make(kind, texts)

    def _not_encodable(self, seen: Seen) -> LeftOut | None:
        unknown = self.tokens.unknown(seen.text)
        if not unknown:
            return None
        reason = f"no token for {tokens.name_characters(unknown)} in {seen.text!r}"
        return LeftOut(seen.item.id, seen.item.where, "characters without a token", reason, seen.item.split)

    def _row(self, seen: Seen, folder: Path) -> index.Row:
        utterance = index.Utterance(
            id=seen.item.id,
            audio=_relative(seen.item.audio, folder),
            channel=seen.item.channel,
            start=seen.start,
            num=seen.num,
            sample_rate=seen.info.sample_rate,
            text=seen.text,
            speaker=seen.item.speaker,
        )
        key = seeds.key("utterance", seen.item.id)
        return index.Row(utterance, seen.num_samples, self.ids[seen.item.id], key)

    def _note_conversions(self) -> None:
        everything = [seen for many in self.splits.values() for seen in many]
        rates = Counter(seen.info.sample_rate for seen in everything)
        for rate, num in sorted(rates.items()):
            if rate != audio.SAMPLE_RATE:
                self.notes.append(f"{num} utterances at {rate / 1000:g} kHz are resampled to 16 kHz")
        averaged = Counter(seen.info.channels for seen in everything if seen.item.channel is None)
        for channels, num in sorted(averaged.items()):
            if channels > 1:
                what = "stereo" if channels == 2 else f"{channels}-channel"
                self.notes.append(f"{num} {what} utterances are averaged to mono")
        wrong = [seen for seen in everything if _claims_otherwise(seen)]
        if wrong:
            self.notes.append(
                f"{len(wrong)} utterances are not as long as their source says, such as {wrong[0].item.id}: "
                f"{wrong[0].item.duration_seconds:g} s said, {wrong[0].seconds:.2f} s found; the audio counts"
            )

    def _note_scored_whole(self, split: str, many: list[Seen], unknown: list[Seen]) -> None:
        if splits.is_training(split):
            return
        if unknown:
            characters = set().union(*(self.tokens.unknown(seen.text) for seen in unknown))
            self.notes.append(
                f"{split}: {len(unknown)} utterances have characters without a token, "
                f"{tokens.name_characters(characters)}; they are kept and count in the word error rate"
            )
        tight = sum(not_alignable(seen, self.ids[seen.item.id], self.limits) is not None for seen in many)
        if tight:
            self.notes.append(
                f"{split}: {tight} utterances have more tokens than frames at the fastest speed; "
                "they are kept, and may not be recognised in full"
            )

    def _first_reasons(self) -> str:
        if not self.left_out:
            return "the source is empty"
        counts = Counter(one.kind for one in self.left_out)
        return (
            ", ".join(f"{num} {kind}" for kind, num in counts.items())
            + f"; the first: {self.left_out[0].reason}"
        )


def _silent(what: str, done: int, total: int, note: str = "") -> None:
    pass


def _cut(seen: Seen, folder: Path, out: Path) -> manifest.Cut:
    path = _relative(seen.item.audio, folder)
    return manifest.Cut(
        id=seen.item.id,
        audio=path if path.is_absolute() else out.absolute() / path,
        sample_rate=seen.info.sample_rate,
        channels=seen.info.channels,
        file_samples=seen.info.num_samples,
        channel=seen.item.channel,
        start=seen.start,
        num=seen.num,
        text=seen.text,
        speaker=seen.item.speaker,
        told=seen.item.told,
    )


def _relative(path: Path, folder: Path) -> Path:
    """Audio that lies in the corpus's own folder moves with it; other audio stays where it is."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _claims_otherwise(seen: Seen) -> bool:
    said = seen.item.duration_seconds
    if said is None or seen.item.start_seconds is not None:
        return False
    return abs(said - seen.seconds) > 0.1 + 0.01 * said


def _refuse_duplicates(imported: Imported) -> None:
    first: dict[str, Item] = {}
    for item in imported.items:
        earlier = first.setdefault(item.id, item)
        if earlier is not item:
            raise CorpusError(
                f"{item.where}: the id {item.id!r} is also that of {earlier.where}",
                "Every utterance needs its own id.",
            )


def _refuse_overlap(source: str, out: Path) -> None:
    """An output that is replaced must not hold its own source."""
    path = Path(source)
    if path.exists() and path.resolve().is_relative_to(out.resolve()):
        raise CorpusError(f"{out}: the source {source} lies in it", "Name another folder.")
