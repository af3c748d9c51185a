"""The model as an ONNX graph, written node by node.

The same numbers as :class:`~hocket.model.ctc.FastConformerCTC` in evaluation mode, to float rounding,
for any number of utterances and frames, with what need not be computed folded away: scales and gates'
halves into weights, frozen batch norm into the convolution before it, the bias of the values into
that of the output (weights of attention sum to one), the bias of the keys into nothing (it moves all
scores of a query alike). Query, key and value are one product. Nodes are named after the modules.

Names, inputs and outputs are those of NVIDIA NeMo's CTC exports, which sherpa-onnx loads.

Shape suffixes: B utterances, T frames, F mel bins, C channels, D hidden, H heads, E channels of a head,
P distances, I inputs, O outputs, K kernel, V tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hocket.model.config import ModelConfig
from hocket.model.ctc import FastConformerCTC
from hocket.model.frames import MASKED
from hocket.model.onnx_nodes import Nodes

if TYPE_CHECKING:
    from onnx import ModelProto

F32 = npt.NDArray[np.float32]
SIGNAL, LENGTH = "audio_signal", "length"
LOGPROBS, LENGTHS = "logprobs", "encoded_lengths"
_BATCH_NORM_EPS = 1e-5


def graph(
    model: FastConformerCTC,
    metadata: Mapping[str, str],
    int8: bool = False,
    shape: tuple[int, int] | None = None,
) -> ModelProto:
    """``audio_signal`` (B, F, T) and ``length`` (B) to ``logprobs`` (B, T', V) and ``encoded_lengths`` (B).

    ``int8`` quantises the products of the blocks: weights once, what meets them each time (dynamic
    quantisation). Convolutions, scores of attention and the head stay in float32. ``shape`` (B, T) writes
    the graph for inputs of that shape alone.
    Raises :class:`~hocket.core.errors.UsageError` where the package ``onnx`` is not installed.
    """
    config = model.config
    weights = {name: value.detach().cpu().float().numpy() for name, value in model.state_dict().items()}
    nodes = Nodes(int8)
    dims: tuple[str | int, ...] = ("batch", "time", "frames")
    if shape is not None:
        dims = (*shape, config.subsampled(shape[1]))
    batch, time, frames = dims
    signal = nodes.input(SIGNAL, "float", [batch, config.num_mel_bins, time])
    lens_B = nodes.input(LENGTH, "int64", [batch])
    writer = _Writer(nodes, config, weights)
    x_BTD, lens_B = writer.subsampling(signal, lens_B)
    writer.describe(x_BTD, lens_B)
    for number in range(config.num_layers):
        x_BTD = writer.block(x_BTD, f"encoder.layers.{number}")
    logits_BTV = nodes.linear(
        x_BTD, weights["ctc_head.weight"][..., 0].T, weights["ctc_head.bias"], "ctc_head", exact=True
    )
    nodes.op("LogSoftmax", logits_BTV, name=LOGPROBS, axis=-1)
    nodes.op("Identity", lens_B, name=LENGTHS)
    nodes.output(LOGPROBS, "float", [batch, frames, config.vocab_size])
    nodes.output(LENGTHS, "int64", [batch])
    return nodes.model("FastConformerCTC", metadata)


class _Writer:
    """Modules of the model as nodes; each method takes and gives names of values."""

    def __init__(self, nodes: Nodes, config: ModelConfig, weights: Mapping[str, Any]) -> None:
        self._nodes, self._config, self._weights = nodes, config, weights
        self._zero, self._one, self._two = (nodes.constant(np.array(n, np.int64)) for n in (0, 1, 2))

    def subsampling(self, signal_BFT: str, lens_B: str) -> tuple[str, str]:
        """Hidden frames (B, T', D) and their lengths. What lies beyond a length has no influence."""
        nodes, name = self._nodes, "encoder.subsampling"
        num_stages = self._config.num_stages
        x_BTF = nodes.op("Transpose", signal_BFT, perm=[0, 2, 1])
        mask_B1T1 = nodes.op("Unsqueeze", self._valid(lens_B, self._length(x_BTF, 1)), nodes.ints(1, 3))
        x_BCTF = nodes.op("Mul", nodes.op("Unsqueeze", x_BTF, nodes.ints(1)), mask_B1T1)
        for stage in range(num_stages):
            index = 0 if stage == 0 else 3 * stage - 1
            groups = 1 if stage == 0 else self._config.subsampling_channels
            x_BCTF = self._convolve(
                x_BCTF,
                f"{name}.layers.{index}",
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=[1] * 4,
                group=groups,
            )
            if stage:
                x_BCTF = self._convolve(x_BCTF, f"{name}.layers.{index + 1}", kernel_shape=[1, 1])
            lens_B = nodes.op("Div", nodes.op("Add", lens_B, self._one), self._two)
            x_BCTF = nodes.op("Relu", x_BCTF)
            if stage < num_stages - 1:  # after the last one no convolution mixes frames
                valid_BT = self._valid(lens_B, self._length(x_BCTF, 2))
                x_BCTF = nodes.op("Mul", x_BCTF, nodes.op("Unsqueeze", valid_BT, nodes.ints(1, 3)))
        x_BTCF = nodes.op("Transpose", x_BCTF, perm=[0, 2, 1, 3])
        x_BTI = nodes.op("Reshape", x_BTCF, nodes.ints(0, 0, -1))
        scale = sqrt(self._config.hidden_size) if self._config.scale_input else 1.0
        weight_IO = self._weights[f"{name}.linear.weight"].T * np.float32(scale)
        bias_O = self._weights[f"{name}.linear.bias"] * np.float32(scale)
        return nodes.linear(x_BTI, weight_IO, bias_O, f"{name}.linear"), lens_B

    def describe(self, x_BTD: str, lens_B: str) -> None:
        """What all blocks share: masks, and sines and cosines of the distances T ... -(T-1).

        One distance more than there are: so a row of products by distance is even, and picking them
        needs no special case for a single frame.
        """
        nodes, half = self._nodes, self._config.hidden_size // 2
        num_frames = self._length(x_BTD, 1)
        valid_BT = self._valid(lens_B, num_frames)
        self._valid_BT1 = nodes.op("Unsqueeze", valid_BT, nodes.ints(2), name="valid")
        lacking_BT = nodes.op("Sub", nodes.constant(np.array(1.0, np.float32)), valid_BT)
        bias_BT = nodes.op("Mul", lacking_BT, nodes.constant(np.array(MASKED, np.float32)))
        self._bias_B1QT = nodes.op("Unsqueeze", bias_BT, nodes.ints(1, 2), name="key_bias")
        if self._config.left_context is not None or self._config.right_context is not None:
            self._bias_B1QT = nodes.op("Add", self._bias_B1QT, self._window(num_frames))
        last = nodes.op("Neg", num_frames)
        distance_P = nodes.op("Range", num_frames, last, nodes.constant(np.array(-1, np.int64)))
        distance_P1 = nodes.op("Unsqueeze", nodes.op("Cast", distance_P, to=1), nodes.ints(1))
        rate_C = 1.0 / 10000.0 ** (np.arange(0, 2 * half, 2, dtype=np.float32) / np.float32(2 * half))
        angle_PC = nodes.op("Mul", distance_P1, nodes.constant(rate_C.astype(np.float32), "rates"))
        sine_PC, cosine_PC = nodes.op("Sin", angle_PC), nodes.op("Cos", angle_PC)
        self._positions_PD = nodes.op("Concat", sine_PC, cosine_PC, axis=1, name="positions")
        count = nodes.op("Unsqueeze", num_frames, nodes.ints(0))
        self._num_frames = count
        short = nodes.op("Sub", nodes.op("Mul", count, nodes.ints(2)), nodes.ints(1))
        tail = nodes.ints(0, 0)
        self._flat_shape = nodes.op("Concat", tail, nodes.ints(-1), axis=0)
        self._rows_shape = nodes.op("Concat", tail, count, short, axis=0)

    def _window(self, num_frames: str) -> str:
        """(T, T): 0 for what a frame attends to, MASKED for what is too far from it."""
        nodes, left, right = self._nodes, self._config.left_context, self._config.right_context
        frame_T = nodes.op("Range", self._zero, num_frames, self._one)
        query_T1, key_1T = (nodes.op("Unsqueeze", frame_T, nodes.ints(dim)) for dim in (1, 0))
        distance_TT = nodes.op("Sub", query_T1, key_1T)
        hidden: list[str] = []
        if left is not None:
            hidden.append(nodes.op("Greater", distance_TT, nodes.constant(np.array(left, np.int64))))
        if right is not None:
            hidden.append(nodes.op("Less", distance_TT, nodes.constant(np.array(-right, np.int64))))
        hidden_TT = nodes.op("Or", *hidden) if len(hidden) == 2 else hidden[0]
        return nodes.op(
            "Mul", nodes.op("Cast", hidden_TT, to=1), nodes.constant(np.array(MASKED, np.float32))
        )

    def block(self, x_BTD: str, name: str) -> str:
        """A block of the encoder."""
        x_BTD = self._residual(x_BTD, self._feed_forward, name, "feed_forward1", "norm_feed_forward1")
        x_BTD = self._residual(x_BTD, self._attention, name, "self_attn", "norm_self_att")
        x_BTD = self._residual(x_BTD, self._convolution, name, "conv", "norm_conv")
        x_BTD = self._residual(x_BTD, self._feed_forward, name, "feed_forward2", "norm_feed_forward2")
        return self._norm(x_BTD, f"{name}.norm_out")

    def _residual(self, x_BTD: str, module: Any, block: str, name: str, norm: str) -> str:
        y_BTD = module(self._norm(x_BTD, f"{block}.{norm}"), f"{block}.{name}")
        return self._nodes.op("Add", x_BTD, y_BTD)

    def _feed_forward(self, x_BTD: str, name: str) -> str:
        """Half of it, as the block adds it."""
        x_BTI = self._silu(self._linear(x_BTD, f"{name}.linear1"))
        return self._linear(x_BTI, f"{name}.linear2", scale=0.5)

    def _attention(self, x_BTD: str, name: str) -> str:
        nodes, heads, size = self._nodes, self._config.num_heads, self._config.head_dim
        hidden, scale = self._config.hidden_size, np.float32(size**-0.5)
        get = self._weights.get
        q_DO, k_DO, v_DO, o_DO, r_DO = (
            self._weights[f"{name}.{part}_proj.weight"].T for part in ("q", "k", "v", "o", "relative_k")
        )
        joined = np.concatenate([q_DO * scale, k_DO, v_DO], axis=1)
        products = nodes.linear(x_BTD, joined, None, f"{name}.qkv_proj")
        q, k, v = nodes.split("Split", products, nodes.ints(hidden, hidden, hidden), num_outputs=3, axis=-1)
        bias_q = get(f"{name}.q_proj.bias", np.zeros(hidden, np.float32))
        split_heads = nodes.ints(0, 0, heads, size)

        def queries(bias: str) -> str:
            bias_D = (bias_q + self._weights[f"{name}.{bias}"].reshape(-1)) * scale
            q_BTD = nodes.op("Add", q, nodes.constant(bias_D, f"{name}.q.{bias}"))
            return nodes.op("Transpose", nodes.op("Reshape", q_BTD, split_heads), perm=[0, 2, 1, 3])

        k_BHET = nodes.op("Transpose", nodes.op("Reshape", k, split_heads), perm=[0, 2, 3, 1])
        v_BHTE = nodes.op("Transpose", nodes.op("Reshape", v, split_heads), perm=[0, 2, 1, 3])
        # Our positions are all sines, then all cosines; the checkpoint's alternate.
        apart_DO = np.concatenate([r_DO[0::2], r_DO[1::2]])
        r_PD = nodes.linear(self._positions_PD, apart_DO, None, f"{name}.relative_k_proj", exact=True)
        r_HEP = nodes.op("Transpose", nodes.op("Reshape", r_PD, nodes.ints(0, heads, size)), perm=[1, 2, 0])
        content_BHTT = nodes.op("MatMul", queries("bias_u"), k_BHET)
        distance_BHTT = self._by_distance(nodes.op("MatMul", queries("bias_v"), r_HEP))
        bias_BHTT = nodes.op("Add", distance_BHTT, self._bias_B1QT)
        weights_BHTT = nodes.op("Softmax", nodes.op("Add", content_BHTT, bias_BHTT), axis=-1)
        y_BTHE = nodes.op("Transpose", nodes.op("MatMul", weights_BHTT, v_BHTE), perm=[0, 2, 1, 3])
        y_BTD = nodes.op("Reshape", y_BTHE, nodes.ints(0, 0, hidden))
        bias_o = get(f"{name}.o_proj.bias")
        if bias_o is not None:
            bias_o = bias_o + get(f"{name}.v_proj.bias") @ o_DO
        return nodes.linear(y_BTD, o_DO, bias_o, f"{name}.o_proj")

    def _by_distance(self, scores_BHTP: str) -> str:
        """Entry (i, j) of (B, H, T, T): the product with distance i - j, column T - i + j of P = 2T.

        Rows shorter by one put them under one another: Dai et al., 2019, arXiv:1901.02860, appendix B.
        """
        nodes = self._nodes
        flat = nodes.op("Reshape", scores_BHTP, self._flat_shape)
        end = nodes.ints(np.iinfo(np.int64).max)
        flat = nodes.op("Slice", flat, self._num_frames, end, nodes.ints(2))
        rows = nodes.op("Reshape", flat, self._rows_shape)
        return nodes.op("Slice", rows, nodes.ints(0), self._num_frames, nodes.ints(3))

    def _convolution(self, x_BTD: str, name: str) -> str:
        nodes, hidden, kernel = self._nodes, self._config.hidden_size, self._config.conv_kernel_size
        x_BTI = self._linear(x_BTD, f"{name}.pointwise_conv1")
        value, gate = nodes.split("Split", x_BTI, nodes.ints(hidden, hidden), num_outputs=2, axis=-1)
        x_BTD = nodes.op("Mul", nodes.op("Mul", value, nodes.op("Sigmoid", gate)), self._valid_BT1)
        weight_D1K = self._weights[f"{name}.depthwise_conv.weight"]
        bias_D = self._weights.get(f"{name}.depthwise_conv.bias", np.zeros(hidden, np.float32))
        if self._config.conv_norm == "frozen_batch_norm":
            norm = {part: self._weights[f"{name}.norm.{part}"] for part in ("weight", "bias", "running_mean")}
            scale_D = norm["weight"] / np.sqrt(self._weights[f"{name}.norm.running_var"] + _BATCH_NORM_EPS)
            weight_D1K = weight_D1K * scale_D[:, None, None]
            bias_D = (bias_D - norm["running_mean"]) * scale_D + norm["bias"]
        conv = f"{name}.depthwise_conv"
        y_BDT = nodes.op(
            "Conv",
            nodes.op("Transpose", x_BTD, perm=[0, 2, 1]),
            nodes.constant(weight_D1K.astype(np.float32), f"{conv}.weight"),
            nodes.constant(bias_D.astype(np.float32), f"{conv}.bias"),
            name=conv,
            group=hidden,
            kernel_shape=[kernel],
            pads=[kernel // 2] * 2,
        )
        y_BTD = nodes.op("Transpose", y_BDT, perm=[0, 2, 1])
        if self._config.conv_norm == "layer_norm":
            y_BTD = self._norm(y_BTD, f"{name}.norm")
        return self._linear(self._silu(y_BTD), f"{name}.pointwise_conv2")

    def _linear(self, x: str, name: str, scale: float = 1.0) -> str:
        """A linear layer or a convolution of kernel 1, times ``scale``."""
        weight_OI = self._weights[f"{name}.weight"].reshape(self._weights[f"{name}.weight"].shape[:2])
        bias_O = self._weights.get(f"{name}.bias")
        factor = np.float32(scale)
        return self._nodes.linear(x, weight_OI.T * factor, None if bias_O is None else bias_O * factor, name)

    def _convolve(self, x_BCTF: str, name: str, **attributes: Any) -> str:
        weight = self._nodes.constant(self._weights[f"{name}.weight"], f"{name}.weight")
        bias = self._nodes.constant(self._weights[f"{name}.bias"], f"{name}.bias")
        return self._nodes.op("Conv", x_BCTF, weight, bias, name=name, **attributes)

    def _norm(self, x_BTD: str, name: str) -> str:
        weight = self._nodes.constant(self._weights[f"{name}.weight"], f"{name}.weight")
        bias = self._nodes.constant(self._weights[f"{name}.bias"], f"{name}.bias")
        return self._nodes.op("LayerNormalization", x_BTD, weight, bias, name=name, axis=-1, epsilon=1e-5)

    def _silu(self, x: str) -> str:
        return self._nodes.op("Mul", x, self._nodes.op("Sigmoid", x))

    def _length(self, x: str, dim: int) -> str:
        """The size of one dimension, as a scalar."""
        return self._nodes.op(
            "Gather", self._nodes.op("Shape", x), self._nodes.constant(np.array(dim, np.int64))
        )

    def _valid(self, lens_B: str, num_frames: str) -> str:
        """1.0 (B, T) where a frame belongs to the utterance, else 0.0."""
        nodes = self._nodes
        frame_T = nodes.op("Range", self._zero, num_frames, self._one)
        inside_BT = nodes.op("Less", frame_T, nodes.op("Unsqueeze", lens_B, nodes.ints(1)))
        return nodes.op("Cast", inside_BT, to=1)
