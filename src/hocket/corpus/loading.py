"""From the plan of a micro-batch to its tensors.

A micro-batch is a function of (corpus, seed, epoch, step, its spec): whichever worker loads it, and
in whatever order, gets the same tensors. Shape suffixes: B utterances, R rows
(utterances times views), T frames, F bins, U tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from hocket.core import seeds
from hocket.core.errors import AudioError
from hocket.core.recipe import Section
from hocket.core.work import MicroBatch, MicroBatchSpec
from hocket.corpus import audio
from hocket.corpus.augment import AugmentSettings, spec_augment
from hocket.corpus.cache import FeatureCache
from hocket.corpus.features import FeatureSettings, LogMel
from hocket.corpus.index import Utterance
from hocket.corpus.noise import Noise
from hocket.corpus.prefetch import Prefetch
from hocket.corpus.reverb import Reverb
from hocket.corpus.shard_source import StorageSettings
from hocket.corpus.storage import Storage, read_utterance
from hocket.corpus.tokens import Tokens

Work = tuple[Sequence[MicroBatchSpec], int, int]
"""Micro-batches to load, with their epoch and step."""


class LoadingSettings(Section):
    """What loading may use. None of it changes what is loaded."""

    cache_mb: int = Field(256, ge=0)
    """Memory for features or waveforms in each worker, in MiB; 0 reads all audio again in every epoch."""
    prefetch_steps: int = Field(2, ge=1, le=64)
    """Steps that are loaded ahead of the one being computed."""
    storage: StorageSettings = StorageSettings()
    """Of corpora in shards."""


class Rows(Protocol):
    """What loading needs of an index, or of several as one."""

    def __len__(self) -> int: ...

    def id(self, row: int) -> str:
        """The utterance's id."""
        ...

    def key_of(self, row: int) -> int:
        """What randomness of the utterance is keyed by."""
        ...

    def samples_of(self, row: int) -> int:
        """Its samples at 16 kHz."""
        ...

    def token_ids(self, row: int) -> npt.NDArray[np.int32]:
        """Its tokens."""
        ...

    def utterance(self, row: int) -> Utterance:
        """The row in full."""
        ...


class Loader:
    """Loads micro-batches of one split.

    ``augment`` None loads audio as it is (validation, recognition). With two ``num_views`` each
    utterance comes twice, masked differently. An utterance that cannot be read
    is left out of its micro-batch and listed in ``MicroBatch.dropped``. ``storage`` reads what is in
    shards; without it shards are read as files of the corpus's folder.
    """

    def __init__(
        self,
        index: Rows,
        tokens: Tokens,
        features: FeatureSettings,
        augment: AugmentSettings | None,
        seed: int,
        loading: LoadingSettings | None = None,
        num_views: int = 1,
        storage: Storage | None = None,
    ) -> None:
        loading = loading or LoadingSettings()
        self._index, self._augment, self._seed, self._storage = index, augment, seed, storage
        self._blank, self._num_views = tokens.blank, num_views
        self._log_mel = LogMel(features.num_mel_bins)
        self._depth = loading.prefetch_steps
        self.cache = FeatureCache(loading.cache_mb)
        self._reverb: Reverb | None = None
        self._noise: Noise | None = None
        if augment is not None and augment.reverb.probability > 0:
            self._reverb = Reverb(augment.reverb, seed)
        if augment is not None and augment.noise.probability > 0:
            self._noise = Noise(augment.noise, seed, index, storage)

    def load(self, spec: MicroBatchSpec, epoch: int, step: int, *, in_order: bool = False) -> MicroBatch:
        """The tensors of a micro-batch, of exactly the padded sizes in its spec.

        Features are padded with zeros, tokens with blanks. ``in_order`` says that steps are loaded one
        after another, so that neighbours in a shard will be needed, too. Raises :class:`ValueError` when an
        utterance does not fit its spec, which then belongs to another corpus.
        """
        loaded: list[tuple[int, torch.Tensor]] = []
        dropped: list[tuple[str, str]] = []
        passes = [epoch] * len(spec.rows) if spec.passes is None else spec.passes.tolist()
        keys: list[tuple[int, int]] = []
        for row, percent, number in zip(spec.rows.tolist(), spec.speed_percent.tolist(), passes, strict=True):
            key = self._index.key_of(row)
            try:
                loaded.append((row, self._features(row, percent, number, key, in_order)))
                keys.append((number, key))
            except AudioError as error:
                dropped.append((self._index.id(row), str(error)))
        features_BTF, feature_lens_B = pad(
            [features_TF for _, features_TF in loaded], spec.num_frames, self._bins
        )
        features_RTF = features_BTF.repeat(self._num_views, 1, 1)
        if self._augment is not None:
            for position in range(len(features_RTF)):
                view, utterance = divmod(position, len(loaded))
                number, key = keys[utterance]
                used_TF = features_RTF[position, : int(feature_lens_B[utterance])]
                spec_augment(used_TF, self._augment, self._seed, number, key, view)
        tokens_BU = torch.full((len(loaded), spec.num_tokens), self._blank, dtype=torch.int64)
        token_lens_B = torch.zeros(len(loaded), dtype=torch.int64)
        for position, (row, _) in enumerate(loaded):
            ids = self._index.token_ids(row)
            if len(ids) > spec.num_tokens:
                raise ValueError(
                    f"{self._index.id(row)}: {len(ids)} tokens, the spec has room for {spec.num_tokens}"
                )
            tokens_BU[position, : len(ids)] = torch.as_tensor(ids.astype("int64"))
            token_lens_B[position] = len(ids)
        return MicroBatch(
            index=spec.index,
            ids=[self._index.id(row) for row, _ in loaded],
            features_BTF=features_RTF,
            feature_lens_B=feature_lens_B,
            tokens_BU=tokens_BU,
            token_lens_B=token_lens_B,
            dropout_key=seeds.key("dropout", self._seed, step, spec.index),
            num_views=self._num_views,
            dropped=dropped,
            keys=tuple(key for _, key in keys),
        )

    def prefetch(self, work: Iterable[Work]) -> Prefetch[Work, list[MicroBatch]]:
        """Load one entry of ``work`` after the other in a background thread, ahead of the consumer.

        Iterate over it once; ``close()`` it, or use it in a ``with`` block, when you stop early.
        """
        return Prefetch(self.load_all, work, self._depth)

    def load_all(self, work: Work) -> list[MicroBatch]:
        """Micro-batches of a step, where steps are loaded about in their order."""
        specs, epoch, step = work
        if self._storage is not None:
            self._storage.at(step)
        return [self.load(spec, epoch, step, in_order=True) for spec in specs]

    def take_storage_counts(self) -> dict[str, Any]:
        """What storage did since the last call; empty without shards."""
        return {} if self._storage is None else self._storage.meter.take()

    def close(self) -> None:
        """End what reads ahead."""
        if self._storage is not None:
            self._storage.close()

    @property
    def _bins(self) -> int:
        return self._log_mel.num_mel_bins

    def _features(self, row: int, percent: int, epoch: int, key: int, in_order: bool) -> torch.Tensor:
        """Features as the utterance sounds in this pass over it; who takes them must not write to them."""
        kept = self.cache.get((row, percent))
        if self._reverb is None and self._noise is None:
            if kept is None:
                kept = self._log_mel(self._waveform(row, percent, in_order))
                self.cache.put((row, percent), kept)
            return kept
        if kept is None:
            kept = torch.from_numpy(self._waveform(row, percent, in_order))
            self.cache.put((row, percent), kept)
        x_N = kept.numpy()
        if self._reverb is not None and self._reverb.drawn(epoch, key):
            x_N = self._reverb.apply(x_N, epoch, key)
        if self._noise is not None and self._noise.drawn(epoch, key):
            x_N = self._noise.add(x_N, epoch, key)
        return self._log_mel(x_N)

    def _waveform(self, row: int, percent: int, in_order: bool) -> audio.Samples:
        """The utterance at 16 kHz, at its speed; raises :class:`AudioError`."""
        utterance = self._index.utterance(row)
        samples = read_utterance(utterance, row, self._storage, in_order=in_order)
        expected = self._index.samples_of(row)
        if len(samples) != expected:
            raise AudioError(
                f"{utterance.audio}: it has changed since the corpus was prepared: {len(samples)} samples "
                f"at 16 kHz instead of {expected}",
                "Prepare the corpus again.",
            )
        return audio.perturb_speed(samples, percent)


def recognition_features(
    log_mel: LogMel, path: Path, channel: int | None = None, start: int = 0, num: int | None = None
) -> torch.Tensor:
    """Features (T, F) of audio as it is; the same as a :class:`Loader` without augmentation makes.

    ``start`` and ``num`` are samples at the file's own rate. Raises :class:`AudioError`.
    """
    return log_mel(audio.read(path, channel, start, num))


def pad(
    features: Sequence[torch.Tensor], num_frames: int, num_mel_bins: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack features (T, F) into (B, ``num_frames``, F), zeros after each; and their lengths (B,).

    Raises :class:`ValueError` when one is longer.
    """
    features_BTF = torch.zeros((len(features), num_frames, num_mel_bins))
    feature_lens_B = torch.zeros(len(features), dtype=torch.int64)
    for position, features_TF in enumerate(features):
        length = len(features_TF)
        if length > num_frames:
            raise ValueError(f"features of {length} frames do not fit {num_frames}")
        features_BTF[position, :length] = features_TF
        feature_lens_B[position] = length
    return features_BTF, feature_lens_B
