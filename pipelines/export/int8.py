"""A graph whose detector calculates in int8, as far as its scores bear it.

Restoration and cue keep float32, and so does the way from pixels to the network's input. Of the detector, convolutions
and products take part, each together with the ReLU behind it, so that no level is spent on what the ReLU cuts off.

- Ranges are those of live faces and of attacks: what lies outside is cut off, and attacks reach further.
- Weights have a scale per channel and 7 bits. A processor without VNNI adds two products of 8 by 8 bits in 16, which
  overflows: a graph that was compared on one processor would score otherwise on another.
- The layers nearest to the pixels cost most: the trace of an attack is small differences of pixels, and few channels
  average the rounding away. As many of these layers stay in float32 as the scores need.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from pipelines.errors import AgfasError, in_short
from pipelines.export.precision import OF_THE_DETECTOR

Feeds = dict[str, np.ndarray]

MOST_KEPT = 0.5
"""Share of the layers that stay in float32 at most."""

# The heavy operations: the others cost little, and lose more than they save.
_IN_EIGHT_BITS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Faces that chose the ranges and the layers differ less than others do.
_SHARE_OF_TOLERANCE = 0.5


@dataclass(frozen=True)
class Layers:
    """What an int8 graph calculates in which precision.

    Attributes:
        kept: layers in float32, those nearest to the pixels.
        layers: of the detector.
    """

    kept: int
    layers: int


def to_int8(path: Path, feeds: Sequence[Feeds], most: float) -> Layers:
    """Rewrite a graph in int8 with as few layers in float32 as keep its scores.

    A score may differ by half of `most` on the faces given; if none of the choices does so, the last one is kept, and
    parity on other faces decides.

    Args:
        path: of the graph; its first output are the scores.
        feeds: its inputs for live faces and attacks, in batches.
        most: tolerance of a score.

    Raises:
        AgfasError: it has nothing to quantise, or cannot be.
    """
    layers = by_depth(path)
    expected = _scores(path, feeds)
    made = path.with_name("int8.onnx")
    for kept in _numbers(int(MOST_KEPT * len(layers))):
        write_int8(path, made, feeds, layers[kept:])
        if max(np.abs(_scores(made, feeds) - expected)) <= _SHARE_OF_TOLERANCE * most:
            break
    made.replace(path)
    return Layers(kept, len(layers))


def by_depth(path: Path) -> list[str]:
    """Names of the detector's layers that int8 is for, those nearest to the pixels first.

    Raises:
        AgfasError: there is none.
    """
    depth: dict[str, int] = {}
    found: list[tuple[int, str]] = []
    for node in onnx.load(path).graph.node:
        before = max((depth.get(name, 0) for name in node.input), default=0)
        # A module's own: what the detector itself does, such as resizing, has one name less.
        inner = node.name.startswith(OF_THE_DETECTOR) and node.name.count("/") > 2
        is_layer = inner and node.op_type in _IN_EIGHT_BITS
        depth |= dict.fromkeys(node.output, before + is_layer)
        if is_layer:
            found.append((before, node.name))
    if not found:
        raise AgfasError("The graph has no convolution and no product to write in int8. Use another --precision.")
    return [name for _, name in sorted(found, key=lambda one: one[0])]


def write_int8(path: Path, made: Path, feeds: Sequence[Feeds], layers: Sequence[str]) -> None:
    """Write a graph with some layers in int8.

    Args:
        path: of the graph.
        made: the new file.
        feeds: see `to_int8`.
        layers: their names.

    Raises:
        AgfasError: it cannot be written.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Feeds] = iter(feeds)

        def get_next(self) -> Feeds | None:
            return next(self.batches, None)

    cut_off = [
        node.name
        for node in onnx.load(path).graph.node
        if node.name.startswith(OF_THE_DETECTOR) and node.op_type == "Relu"
    ]
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises to optimise first, which renames the nodes
    try:
        quantize_static(
            path, made, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
            nodes_to_quantize=[*layers, *cut_off], activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    except Exception as error:  # see `to_float16`
        raise AgfasError(
            f"The graph cannot be written in int8 ({in_short(error)}). Use another --precision."
        ) from error
    finally:
        logging.root.setLevel(level)


def _numbers(most: int) -> list[int]:
    """0, 1, 2, 3, 4, 6, 8, 12, ... and `most`."""
    steps = [0, 1, *(step for power in range(1, 12) for step in (2**power, 3 * 2 ** (power - 1)))]
    return [*(step for step in steps if step < most), most]


def _scores(path: Path, feeds: Sequence[Feeds]) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, each)[0] for each in feeds])
    except Exception as error:
        raise AgfasError(f"The int8 graph is not kept, as it cannot be run ({in_short(error)}).") from error
