"""Training on from weights that exist, and keeping some of them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from hocket.core.errors import CheckpointError, RecipeError
from hocket.corpus import tokens as corpus_tokens
from hocket.corpus.tokens import Tokens
from hocket.model import hf, store, tensors
from hocket.model.config import ModelConfig
from hocket.model.ctc import FastConformerCTC

HF = "hf:"
"""What ``init`` starts with when it names a folder in Hugging Face's format."""

_HEAD = "ctc_head."
_MAY_DIFFER = {"preset", "vocab_size", "dropout", "ff_dropout", "input_dropout"}
"""Keys of a model that say nothing about what its weights compute."""


@dataclass(frozen=True)
class Source:
    """A folder of weights: of a run, of a model, or in Hugging Face's format."""

    folder: Path
    in_hf: bool

    @staticmethod
    def find(init: str, bases: Sequence[Path]) -> Source:
        """What ``init`` names, below the first of ``bases`` that has it; a run's ``model/`` is found.

        Raises :class:`RecipeError` when none of them does.
        """
        in_hf = init.startswith(HF)
        named = Path(init.removeprefix(HF))
        for base in bases:
            for folder in (base / named, base / named / "model"):
                if (folder / store.CONFIG).is_file():
                    return Source(folder.resolve(), in_hf)
        raise RecipeError(
            f"init: {init}: neither a folder of a model nor of a run that has ended",
            "Give a folder with model/ or config.json in it; hf:FOLDER for one in Hugging Face's format.",
        )

    @property
    def init(self) -> str:
        """As a recipe names it, from wherever it is read."""
        return f"{HF if self.in_hf else ''}{self.folder}"

    def config(self) -> ModelConfig:
        """The model's configuration; raises :class:`CheckpointError` when there is no such model."""
        return hf.read_config(self.folder) if self.in_hf else store.load_config(self.folder)

    def take_over(self, model: FastConformerCTC, tokens: Tokens) -> dict[str, Any]:
        """Copy the weights into ``model``, all but the head of another vocabulary; says what was done.

        A folder without tokens has the same vocabulary when it has as many of them. Raises
        :class:`CheckpointError` when anything else of the two models differs.
        """
        theirs, ours = self.config().model_dump(), model.config.model_dump()
        differing = [name for name in ours if name not in _MAY_DIFFER and ours[name] != theirs[name]]
        if differing:
            told = "; ".join(f"{name} is {theirs[name]} there and {ours[name]} here" for name in differing)
            raise CheckpointError(
                f"{self.folder}: weights of another model: {told}",
                "Leave out the recipe's model section to take the one of the weights; "
                "features.num_mel_bins must be theirs, too.",
            )
        source = hf.load(self.folder) if self.in_hf else store.load(self.folder)
        weights = source.state_dict()
        head = self._head(tokens, theirs["vocab_size"])
        if head.startswith("new"):
            own = {name: value for name, value in model.state_dict().items() if name.startswith(_HEAD)}
            weights = {name: value for name, value in weights.items() if not name.startswith(_HEAD)} | own
        tensors.take_over(model, weights, self.folder)
        return {
            "source": self.init,
            "source_sha256": store.weights_sha256(source),
            "head": head,
        }

    def _head(self, tokens: Tokens, vocab_size: int) -> str:
        """What becomes of the CTC head, and why; a new one starts with ``new``."""
        if vocab_size != tokens.vocab_size:
            return f"new: the corpus has {tokens.vocab_size} tokens, the weights are for {vocab_size}"
        if not (self.folder / corpus_tokens.FILE).is_file():
            return f"kept: as many tokens ({vocab_size}); which they are the folder does not say"
        if Tokens.load(self.folder).fingerprint != tokens.fingerprint:
            return f"new: as many tokens ({vocab_size}), but others"
        return "kept"


def freeze(model: torch.nn.Module, patterns: Sequence[str]) -> int:
    """Keep the parameters that match as they are; the number of values in them.

    Patterns are those of a shell (``encoder.layers.[0-3].*``), over whole names. Raises
    :class:`RecipeError` for a pattern that matches nothing, and when nothing is left to train.
    """
    named = dict(model.named_parameters())
    for pattern in patterns:
        matching = [name for name in named if fnmatchcase(name, pattern)]
        if not matching:
            raise RecipeError(
                f"freeze: no parameter is named like {pattern!r}",
                f"Names are like {', '.join(sorted({_stem(name) for name in named}))}.",
            )
        for name in matching:
            named[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in named.values()):
        raise RecipeError(f"freeze: {list(patterns)} leaves nothing to train")
    return sum(parameter.numel() for parameter in named.values() if not parameter.requires_grad)


def _stem(name: str) -> str:
    """``encoder.layers.*`` of ``encoder.layers.0.conv.bias``: enough to write a pattern from."""
    return ".".join([*name.split(".")[:2], "*"])
