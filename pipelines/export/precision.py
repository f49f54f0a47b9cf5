"""A graph in fewer bits: its weights in float16, or the detector's arithmetic in int8, calibrated on live faces.

Restoration and cue keep float32 in either: a cue is a small difference of two pictures, which fewer bits would drown.
So does the way from pixels to the network's input. float16 halves the file; the arithmetic stays that of float32.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from pipelines.errors import AgfasError, in_short

Feeds = dict[str, np.ndarray]

OF_THE_DETECTOR = "/detector/"
"""How the names of the detector's nodes begin."""

# Of weights that are kept as they are: they take no room.
_FEWEST = 256
# The heavy operations: the others cost little, and lose more than they save.
_IN_EIGHT_BITS = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


def to_float16(path: Path) -> None:
    """Rewrite a graph: the detector's weights in float16, which a runtime widens again when it loads them."""
    model = onnx.load(path)
    graph = model.graph
    used: dict[str, set[bool]] = {}
    for node in graph.node:
        for name in node.input:
            used.setdefault(name, set()).add(node.name.startswith(OF_THE_DETECTOR))
    widened = []
    for weights in graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < _FEWEST or used.get(weights.name) != {True}:
            continue
        if not np.abs(values).max() <= np.finfo(np.float16).max:
            continue
        name = f"{weights.name}_float16"
        widened.append(onnx.helper.make_node("Cast", [name], [weights.name], name=name, to=onnx.TensorProto.FLOAT))
        weights.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name))
    nodes = [*widened, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


def to_int8(path: Path, live: Sequence[Feeds]) -> None:
    """Rewrite a graph: the detector's convolutions and products in int8, their ranges those of live faces.

    Args:
        path: of the graph.
        live: its inputs for some live faces, in batches.

    Raises:
        AgfasError: it has nothing to quantise, or cannot be.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Feeds] = iter(live)

        def get_next(self) -> Feeds | None:
            return next(self.batches, None)

    nodes = onnx.load(path).graph.node
    # A module's own: what the detector itself does, such as resizing, has one name less.
    inner = [node for node in nodes if node.name.startswith(OF_THE_DETECTOR) and node.name.count("/") > 2]
    chosen = [node.name for node in inner if node.op_type in _IN_EIGHT_BITS]
    if not chosen:
        raise AgfasError("The graph has no convolution and no product to write in int8. Use another --precision.")
    made = path.with_name("int8.onnx")
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises to optimise first, which renames the nodes
    try:
        quantize_static(
            path, made, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, nodes_to_quantize=chosen,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        made.replace(path)
    except Exception as error:  # see `to_float16`
        raise AgfasError(
            f"The graph cannot be written in int8 ({in_short(error)}). Use another --precision."
        ) from error
    finally:
        logging.root.setLevel(level)


def to_openvino(path: Path) -> Path:
    """Write a graph in OpenVINO's format instead, with its weights beside it; returns the new file.

    Raises:
        AgfasError: OpenVINO is not installed, or does not know an operation.
    """
    try:
        import openvino
    except ModuleNotFoundError:
        raise AgfasError('--format openvino needs OpenVINO: pip install "agfas[openvino]".') from None
    made = path.with_suffix(".xml")
    try:
        openvino.save_model(openvino.convert_model(path), made, compress_to_fp16=False)
    except Exception as error:  # its exceptions share no base class
        raise AgfasError(f"OpenVINO cannot convert the graph ({in_short(error)}). Use --format onnx.") from error
    path.unlink()
    return made
