"""A graph in fewer bits, by onnxruntime's own tools: float16, or int8 calibrated on live faces.

The noised restoration keeps float32 in either: a cue is a small difference of two pictures, which fewer bits would
drown. So does the way from pixels to the network's input.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from pipelines.errors import AgfasError, in_short

Feeds = dict[str, np.ndarray]

OF_THE_DETECTOR = "/detector/"
"""How the names of the detector's nodes begin."""

# The heavy operations: the others cost little, and lose more than they save.
_IN_EIGHT_BITS = ["Conv", "ConvTranspose", "Gemm", "MatMul"]


def to_float16(path: Path) -> None:
    """Rewrite a graph: the detector's weights and arithmetic in float16, inputs and outputs as before.

    Raises:
        AgfasError: an operation of it has no float16.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(path)
    others = [node.name for node in model.graph.node if not node.name.startswith(OF_THE_DETECTOR)]
    try:
        made = convert_float_to_float16(model, keep_io_types=True, node_block_list=others)
        onnx.save(made, path)
    except Exception as error:  # what onnx raises shares no base class
        raise AgfasError(
            f"The graph cannot be written in float16 ({in_short(error)}). Use another --precision."
        ) from error


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
    chosen = [node.name for node in nodes if node.op_type in _IN_EIGHT_BITS and node.name.startswith(OF_THE_DETECTOR)]
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
