"""A trained model as an ONNX folder: for hocket itself, ONNX Runtime, and sherpa-onnx.

``model.onnx`` (and ``model.int8.onnx``), ``tokens.txt`` and the metadata are as sherpa-onnx's
``OfflineRecognizer.from_nemo_ctc`` reads them; ``config.json`` and ``tokens.json`` are hocket's own.
https://k2-fsa.github.io/sherpa/onnx/pretrained_models/offline-ctc/nemo/
"""

from __future__ import annotations

from pathlib import Path

from hocket import __version__
from hocket.core import files
from hocket.core.errors import UsageError
from hocket.corpus.tokens import Tokens
from hocket.decoding.vocabulary import SENTENCEPIECE, Vocabulary
from hocket.model import FastConformerCTC, onnx_graph, store
from hocket.recognition.opening import ONNX

TOKENS = "tokens.txt"
BLANK = "<blk>"
FIXED = "model.fixed.onnx"


def write(out: Path, model: FastConformerCTC, tokens: Tokens) -> None:
    """The folder in fp32. Raises :class:`UsageError` where the package ``onnx`` is not installed."""
    _write_graph(out, model, "fp32")
    files.write_text(out / TOKENS, tokens_text(tokens))
    files.write_json(out / store.CONFIG, store.document(model.config, store.weights_sha256(model)))
    tokens.save(out)


def write_int8(out: Path, model: FastConformerCTC) -> None:
    """The graph with products of integers, beside the other."""
    _write_graph(out, model, "int8")


def write_fixed(out: Path, model: FastConformerCTC, shape: tuple[int, int]) -> None:
    """The graph in fp32 for so many utterances of so many frames alone, for compilers that need to know."""
    graph = onnx_graph.graph(model, metadata(model), shape=shape)
    files.write_bytes(out / FIXED, graph.SerializeToString())


def metadata(model: FastConformerCTC) -> dict[str, str]:
    """What sherpa-onnx must know of the model, and what made it."""
    config = model.config
    return {
        "model_type": "EncDecCTCModelBPE",
        "version": "1",
        "vocab_size": str(config.vocab_size),
        "subsampling_factor": str(config.subsampling_factor),
        "normalize_type": "per_feature",
        "feat_dim": str(config.num_mel_bins),
        "model_author": f"hocket {__version__}",
    }


def tokens_text(tokens: Tokens) -> str:
    """Pieces and ids, one a line, a space as SentencePiece's mark; the blank is the last.

    Raises :class:`UsageError` for pieces that the format cannot hold.
    """
    vocabulary = Vocabulary.of(tokens)
    pieces = [piece.replace(" ", SENTENCEPIECE) for piece in vocabulary.pieces[:-1]]
    for piece in pieces:
        if not piece or piece.split() != [piece]:
            raise UsageError(f"the token {piece!r} has white space in it, which {TOKENS} cannot hold")
    return "".join(f"{piece} {number}\n" for number, piece in enumerate([*pieces, BLANK]))


def _write_graph(out: Path, model: FastConformerCTC, precision: str) -> None:
    graph = onnx_graph.graph(model, metadata(model), int8=precision == "int8")
    files.write_bytes(out / ONNX[precision], graph.SerializeToString())
