"""A graph with its weights in float16, or in OpenVINO's format; for int8 see `pipelines.export.int8`.

Restoration and cue keep float32: a cue is a small difference of two pictures, which fewer bits would drown. float16
halves the file; the arithmetic stays that of float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from pipelines.errors import AgfasError, in_short

OF_THE_DETECTOR = "/detector/"
"""How the names of the detector's nodes begin."""

# Of weights that are kept as they are: they take no room.
_FEWEST = 256


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
