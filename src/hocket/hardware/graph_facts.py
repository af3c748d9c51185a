"""What an exported graph asks of whoever computes it: operators, precision, shapes, weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hocket.core.errors import CheckpointError, UsageError

_PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_INTEGER_PRODUCTS = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")
_STATIC = ("QuantizeLinear", "QLinearMatMul", "QLinearConv")
_OF_SHAPES = ("Shape", "Size")


@dataclass(frozen=True)
class GraphFacts:
    """Of one ONNX graph."""

    file: str
    opset: int
    operators: Mapping[str, int]
    """How often each operator computes from the inputs' values. ``MatMul:values`` is a product of two
    computed matrices (``MatMul``: by weights), ``Conv:1d`` a convolution over one dimension."""
    num_of_shapes: int
    """Nodes whose result follows from weights and shapes: a compiler that knows the shapes drops them."""
    free: Mapping[str, tuple[str, ...]]
    """Dimensions that vary, by input."""
    float_products: int
    integer_products: int
    quantised: Literal["no", "dynamic", "static"]
    """``dynamic``: scales are found anew from each input."""
    weight_bytes: int


def read(path: Path) -> GraphFacts:
    """The facts of an ONNX file.

    Raises :class:`UsageError` where the package ``onnx`` is not installed, :class:`CheckpointError` for
    a file that it cannot read.
    """
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            f"checking ONNX needs a package that is not here: {error}", "pip install 'hocket[onnx]'"
        ) from error
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf and the file system have errors of their own each
        raise CheckpointError(f"{path}: not an ONNX graph: {error}") from error
    return facts(model, path.name)


def facts(model: Any, file: str) -> GraphFacts:
    """The facts of a ``ModelProto``."""
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    operators: Counter[str] = Counter()
    floats = integers = of_shapes = 0
    for node in graph.node:  # in an order in which they can be computed: ONNX asks for that
        if node.op_type in _OF_SHAPES or all(name in known for name in node.input if name):
            known.update(node.output)
            of_shapes += 1
            continue
        operators[_qualified(node, known)] += 1
        floats += node.op_type in _PRODUCTS
        integers += node.op_type in _INTEGER_PRODUCTS
    kinds = {name.partition(":")[0] for name in operators}
    static = not kinds.isdisjoint(_STATIC)
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return GraphFacts(
        file=file,
        opset=max(opsets, default=0),
        operators=dict(sorted(operators.items())),
        num_of_shapes=of_shapes,
        free=_free(graph),
        float_products=floats,
        integer_products=integers,
        quantised="dynamic" if "DynamicQuantizeLinear" in kinds else "static" if static else "no",
        weight_bytes=sum(len(tensor.raw_data) for tensor in graph.initializer),
    )


def _qualified(node: Any, known: set[str]) -> str:
    kind = str(node.op_type)
    if kind == "MatMul" and not any(name in known for name in node.input):
        return f"{kind}:values"
    if kind == "Conv":
        kernel = [attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape"]
        return f"{kind}:1d" if kernel and len(kernel[0]) == 1 else kind
    return kind


def _free(graph: Any) -> dict[str, tuple[str, ...]]:
    free = {}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        names = tuple(dim.dim_param or "unknown" for dim in dims if not dim.HasField("dim_value"))
        if names:
            free[value.name] = names
    return free
