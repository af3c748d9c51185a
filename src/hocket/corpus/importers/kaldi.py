"""Kaldi data directories: ``wav.scp``, ``text``, and where there are ``segments`` and ``utt2spk``.

SOURCE is one such directory, or a folder of them (``data/train``, ``data/dev``...). ``utt2dur`` and
all else is passed over: lengths come from the audio. https://kaldi-asr.org/doc/data_prep.html
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from hocket.core.errors import AudioError, CorpusError
from hocket.corpus import audio
from hocket.corpus.importers.base import (
    OVERSHOOT_SECONDS,
    ImportContext,
    Imported,
    Item,
    LeftOut,
    Progress,
    names_a_part,
    part,
    refuse_mostly_broken,
    text_lines,
    within,
)

_ARCHIVE = re.compile(r".+:\d+(?:\[.*\])?")
_PARENTS = 3


class KaldiImporter:
    """A data directory, or a folder of them; a directory's name is its split."""

    def detect(self, source: str) -> bool:
        """Whether the source looks like this format."""
        return bool(_folders(Path(source)))

    def read(self, source: str, context: ImportContext) -> Imported:
        """Read all directories; a line that cannot be used is left out, unless most are."""
        path = Path(source)
        folders = _folders(path)
        if not folders:
            raise CorpusError(f"{source}: no Kaldi data directory here", "It holds wav.scp and text.")
        items: list[Item] = []
        broken: list[LeftOut] = []
        notes: list[str] = []
        for folder in folders:
            name = folder.resolve().name
            # A lone directory may be called anything: then it is for training, as a table is.
            split = part(name) if folder != path or names_a_part(name) else None
            directory = _Directory(folder, split, context.progress)
            items += directory.items
            broken += directory.broken
            notes += directory.notes
        refuse_mostly_broken(source, items, broken)
        return Imported(path.resolve().name, items, broken, notes)


@dataclass(frozen=True)
class _Entry:
    """What follows a key in one of Kaldi's files, and where it stands."""

    value: str
    where: str


class _Refused(Exception):
    """Why an utterance cannot be used: a few words for counting, and the reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class _Directory:
    """One directory, read into items, what is broken, and notes."""

    def __init__(self, folder: Path, split: str | None, progress: Progress) -> None:
        self._folder, self._split, self._progress = folder, split, progress
        self.items: list[Item] = []
        self.broken: list[LeftOut] = []
        self.notes: list[str] = []
        self._probed: dict[str, audio.AudioInfo | AudioError] = {}
        self._cut_short = 0
        self._recordings = self._mapping("wav.scp", "no path of audio")
        self._texts = self._mapping("text", None)
        has_speakers = (folder / "utt2spk").is_file()
        self._speakers = self._mapping("utt2spk", "no speaker") if has_speakers else {}
        utterances = self._segments() if (folder / "segments").is_file() else self._whole()
        self._note(utterances)

    def _mapping(self, name: str, missing: str | None) -> dict[str, _Entry]:
        """A file of ``KEY VALUE`` lines; ``missing`` says what is wrong with a key alone, if anything is."""
        found: dict[str, _Entry] = {}
        for where, line in text_lines(self._folder / name, self.broken):
            key, *rest = line.split(None, 1)
            if key in found:
                self._leave_out(key, where, "broken line", f"{key!r} stands at {found[key].where} already")
            elif not rest and missing is not None:
                self._leave_out(key, where, "broken line", f"{missing} after {key!r}")
            else:
                found[key] = _Entry(rest[0] if rest else "", where)
        return found

    def _whole(self) -> set[str]:
        """Without segments every recording is an utterance."""
        for name, entry in self._recordings.items():
            try:
                self._add(name, entry.where, self._audio(name))
            except _Refused as refused:
                self._leave_out(name, entry.where, refused.kind, str(refused))
        return set(self._recordings)

    def _segments(self) -> set[str]:
        """Lines ``UTTERANCE RECORDING START END [CHANNEL]``; an END of -1 is that of the recording."""
        named = set()
        for where, line in text_lines(self._folder / "segments", self.broken):
            name, *fields = line.split()
            named.add(name)
            try:
                self._add_segment(name, fields, where)
            except _Refused as refused:
                self._leave_out(name, where, refused.kind, str(refused))
        return named

    def _add_segment(self, name: str, fields: list[str], where: str) -> None:
        if len(fields) not in (3, 4):
            raise _Refused("broken line", "not UTTERANCE RECORDING START END, nor that and a CHANNEL")
        recording = fields[0]
        try:
            start, end = float(fields[1]), float(fields[2])
            channel = int(fields[3]) if len(fields) == 4 else None
        except ValueError as error:
            raise _Refused("broken line", f"not a number: {error}") from None
        if not (math.isfinite(start) and math.isfinite(end)) or start < 0 or (end != -1 and end <= start):
            raise _Refused("broken line", f"no stretch of time: {fields[1]} to {fields[2]} s")
        if recording not in self._recordings:
            raise _Refused("broken line", f"the recording {recording!r} is not in wav.scp")
        path = self._audio(recording)
        info = self._info(recording, path)
        first = round(start * info.sample_rate)
        left = info.num_samples - first
        if left <= 0:
            length = info.num_samples / info.sample_rate
            raise _Refused("broken line", f"it starts at {start:g} s, {path} ends at {length:.2f} s")
        asked = left if end == -1 else round((end - start) * info.sample_rate)
        num = within(first, asked, info.num_samples, info.sample_rate)
        self._cut_short += asked - num > 1  # one sample is rounding
        self._add(name, where, path, first / info.sample_rate, num / info.sample_rate, channel)

    def _audio(self, recording: str) -> Path:
        """Where a recording is. Raises :class:`_Refused` for what is no file of its own."""
        entry = self._recordings[recording]
        value = entry.value
        if value.endswith("|") or value == "-":
            raise _Refused(
                "audio is a command",
                f"{entry.where}: {recording!r} is the output of a command, {value!r}; commands of a corpus "
                "are not run: write the audio to a file, and name that in wav.scp",
            )
        if _ARCHIVE.fullmatch(value) and not Path(value).exists():
            raise _Refused(
                "audio in an archive",
                f"{entry.where}: {recording!r} lies in an archive, {value!r}, which cannot be read; "
                "write its audio to a file (wav-copy), and name that in wav.scp",
            )
        path = Path(value)
        if path.is_absolute():
            return path
        # Kaldi's paths are relative to where its scripts ran: most often some folders up from here.
        folder = self._folder.resolve()
        bases = (Path.cwd(), folder, *folder.parents[:_PARENTS])
        return next((base / path for base in bases if (base / path).is_file()), Path.cwd() / path)

    def _info(self, recording: str, path: Path) -> audio.AudioInfo:
        """The header of a recording, read once."""
        if recording not in self._probed:
            try:
                self._probed[recording] = audio.probe(path)
            except AudioError as error:
                self._probed[recording] = error
            self._progress("reading headers", len(self._probed), len(self._recordings))
        found = self._probed[recording]
        if isinstance(found, AudioError):
            raise _Refused("unreadable audio", str(found))
        return found

    def _add(
        self,
        name: str,
        where: str,
        path: Path,
        start: float | None = None,
        duration: float | None = None,
        channel: int | None = None,
    ) -> None:
        if name not in self._texts:
            raise _Refused("no transcript", f"{name!r} has no line in {self._folder / 'text'}")
        speaker = self._speakers.get(name)
        self.items.append(
            Item(
                id=name,
                audio=path,
                text=self._texts[name].value,
                where=where,
                speaker=None if speaker is None else speaker.value,
                split=self._split,
                channel=channel,
                start_seconds=start,
                duration_seconds=duration,
            )
        )

    def _leave_out(self, name: str, where: str, kind: str, reason: str) -> None:
        reason = reason if reason.startswith(where) else f"{where}: {reason}"
        self.broken.append(LeftOut(name, where, kind, reason, self._split))

    def _note(self, utterances: set[str]) -> None:
        if self._cut_short:
            self.notes.append(
                f"{self._folder}: {self._cut_short} segments end up to {OVERSHOOT_SECONDS:g} s after their "
                "recordings, and were cut there"
            )
        stray = [name for name in self._texts if name not in utterances]
        if stray:
            self.notes.append(
                f"{self._folder / 'text'}: {len(stray)} transcripts are of no utterance, such as {stray[0]}"
            )


def _folders(path: Path) -> list[Path]:
    if (path / "wav.scp").is_file():
        return [path]
    if not path.is_dir():
        return []
    return sorted(
        folder for folder in path.iterdir() if (folder / "wav.scp").is_file() and (folder / "text").is_file()
    )
