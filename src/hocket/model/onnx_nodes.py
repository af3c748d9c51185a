"""Small steps towards an ONNX graph: nodes and constants by name, checked when the graph is whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hocket.core.errors import UsageError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

OPSET = 17
"""The first with layer normalisation as one operator."""
IR_VERSION = 8

F32 = npt.NDArray[np.float32]

_TYPES = {"float": np.float32, "int64": np.int64}


def onnx_module() -> Any:
    """The ``onnx`` package. Raises :class:`UsageError` where it is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            f"writing ONNX needs a package that is not here: {error}", "pip install 'hocket[onnx]'"
        ) from error
    return onnx


class Nodes:
    """A graph that grows node by node. Values are known by their names."""

    def __init__(self, int8: bool = False) -> None:
        self._onnx = onnx_module()
        self._int8 = int8
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._known: dict[bytes, str] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def input(self, name: str, dtype: str, shape: Sequence[str | int]) -> str:
        """An input of the graph; a word in ``shape`` is a dimension that varies."""
        self._inputs.append(self._value(name, dtype, shape))
        return name

    def output(self, value: str, dtype: str, shape: Sequence[str | int]) -> None:
        """Make a value an output of the graph."""
        self._outputs.append(self._value(value, dtype, shape))

    def constant(self, array: npt.NDArray[Any], name: str = "") -> str:
        """A constant; small ones of equal content are held once."""
        array = np.asarray(array, order="C")
        key = f"{array.dtype}{array.shape}".encode() + array.tobytes() if not name else name.encode()
        if key not in self._known:
            known = name or f"constant_{len(self._known)}"
            self._constants.append(self._onnx.numpy_helper.from_array(array, known))
            self._known[key] = known
        return self._known[key]

    def ints(self, *values: int) -> str:
        """A constant vector of int64."""
        return self.constant(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """One node with one output, which bears the node's name."""
        return self.split(kind, *inputs, name=name, num_outputs=1, **attributes)[0]

    def split(
        self, kind: str, *inputs: str, num_outputs: int, name: str = "", **attributes: Any
    ) -> list[str]:
        """One node with several outputs."""
        name = name or f"{kind}_{len(self._nodes)}"
        outputs = [name] if num_outputs == 1 else [f"{name}_{number}" for number in range(num_outputs)]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs

    def linear(self, x: str, weight_IO: F32, bias_O: F32 | None, name: str, exact: bool = False) -> str:
        """``x @ weight + bias``. In an int8 graph the product is one of integers, unless ``exact``."""
        if self._int8 and not exact:
            y = self._integer_product(x, weight_IO, name)
        else:
            y = self.op("MatMul", x, self.constant(weight_IO, f"{name}.weight"), name=f"{name}.product")
        return y if bias_O is None else self.op("Add", y, self.constant(bias_O, f"{name}.bias"), name=name)

    def _integer_product(self, x: str, weight_IO: F32, name: str) -> str:
        """Weights in int8 with a scale for each output; ``x`` in uint8 with a scale of its own each time.

        ONNX Runtime makes one operator of these nodes.
        """
        scale_O = np.maximum(np.abs(weight_IO).max(axis=0), np.float32(1e-12)) / np.float32(127)
        rounded_IO = np.clip(np.rint(weight_IO / scale_O), -127, 127).astype(np.int8)
        quantised, scale, zero = self.split("DynamicQuantizeLinear", x, num_outputs=3)
        weight = self.constant(rounded_IO, f"{name}.weight_int8")
        product = self.op("Cast", self.op("MatMulInteger", quantised, weight, zero), to=1)
        scales = self.op("Mul", scale, self.constant(scale_O.astype(np.float32), f"{name}.weight_scale"))
        return self.op("Mul", product, scales, name=f"{name}.product")

    def model(self, name: str, metadata: Mapping[str, str]) -> ModelProto:
        """The whole, checked by ``onnx`` itself."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants)
        opset = helper.make_opsetid("", OPSET)
        model: ModelProto = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="hocket"
        )
        for key, value in metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        self._onnx.checker.check_model(model)
        return model

    def _value(self, name: str, dtype: str, shape: Sequence[str | int]) -> ValueInfoProto:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(_TYPES[dtype]))
        value: ValueInfoProto = self._onnx.helper.make_tensor_value_info(name, kind, list(shape))
        return value
