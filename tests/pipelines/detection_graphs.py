"""Small real detector graphs whose faces are red cells of 8 x 8 pixels, and pictures that show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Of the drawn faces, in pixels from the middle of the cell that shows one: eyes, nose, corners of the mouth.
OFFSETS = np.array([[-8, -8], [8, -8], [0, 0], [-6, 8], [6, 8]], np.float32)


RED = (255, 0, 0)


class Graph:
    """Collects the nodes of a small ONNX graph over the input `input` (1, 3, H, W)."""

    def __init__(self, spatial: tuple[object, object]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.spatial = spatial

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def cells(self, stride: int) -> str:
        name = f"cells_{stride}"
        node = helper.make_node("AveragePool", ["input"], [name], kernel_shape=[stride] * 2, strides=[stride] * 2)
        self.nodes.append(node)
        return name

    def head(self, name: str, cells: str, weight: np.ndarray, bias: np.ndarray, shape: list[int], clip: bool) -> None:
        """A 1 x 1 convolution, its channels last, reshaped; between 0 and 1 where `clip`."""
        kernel = self.constant(f"{name}_w", weight.astype(np.float32)[:, :, None, None])
        offset = self.constant(f"{name}_b", bias.astype(np.float32))
        self.nodes.append(helper.make_node("Conv", [cells, kernel, offset], [f"{name}_conv"]))
        last = f"{name}_conv"
        if clip:
            low, high = (self.constant(f"{name}_{end}", np.array(end, np.float32)) for end in (0, 1))
            self.nodes.append(helper.make_node("Clip", [last, low, high], [f"{name}_clip"]))
            last = f"{name}_clip"
        self.nodes.append(helper.make_node("Transpose", [last], [f"{name}_last"], perm=[0, 2, 3, 1]))
        size = self.constant(f"{name}_shape", np.array(shape, np.int64))
        self.nodes.append(helper.make_node("Reshape", [f"{name}_last", size], [name]))
        dimensions = [f"n_{name}" if side == -1 else side for side in shape]
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dimensions))

    def save(self, path: Path) -> Path:
        entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *self.spatial])
        graph = helper.make_graph(self.nodes, "tiny", [entry], self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
        return path


def tiny_yunet(path: Path, width: float = 32.0) -> Path:
    """A YuNet whose faces are red cells: boxes of `width` around them, landmarks at `OFFSETS`."""
    graph = Graph(("height", "width"))
    zero = np.zeros((1, 3))
    red = np.array([[0, 0, 1 / 255]])  # blue, green, red
    for kind in ("cls", "obj"):
        for stride in (8, 16, 32):
            weight = red if stride == 8 else zero
            graph.head(f"{kind}_{stride}", graph_cells(graph, stride), weight, np.zeros(1), [1, -1, 1], clip=True)
    box = np.array([0.5, 0.5, np.log(width / 8), np.log(width / 8)])
    for stride in (8, 16, 32):
        graph.head(f"bbox_{stride}", graph_cells(graph, stride), np.zeros((4, 3)), box, [1, -1, 4], clip=False)
    for stride in (8, 16, 32):
        points = (0.5 + OFFSETS / 8).ravel()
        graph.head(f"kps_{stride}", graph_cells(graph, stride), np.zeros((10, 3)), points, [1, -1, 10], clip=False)
    return graph.save(path)


def graph_cells(graph: Graph, stride: int) -> str:
    name = f"cells_{stride}"
    return name if any(name in node.output for node in graph.nodes) else graph.cells(stride)


def tiny_scrfd(path: Path, spatial: tuple[object, object], landmarks: bool = True) -> Path:
    """An SCRFD whose faces are red cells: boxes of 32 from their corner -12, landmarks at `OFFSETS`."""
    graph = Graph(spatial)
    red = np.array([[0.5, 0, 0]] * 2)  # red, green, blue in [-1, 1], for the two anchors of a cell
    for stride in (8, 16, 32):
        weight, bias = (red, np.full(2, 0.5)) if stride == 8 else (np.zeros((2, 3)), np.zeros(2))
        graph.head(f"score_{stride}", graph.cells(stride), weight, bias, [-1, 1], clip=True)
    for stride in (8, 16, 32):  # distances from the cell's corner to the four sides, in strides
        bias = np.array([12, 12, 20, 20] * 2) / 8
        graph.head(f"box_{stride}", f"cells_{stride}", np.zeros((8, 3)), bias, [-1, 4], clip=False)
    for stride in (8, 16, 32) if landmarks else ():
        bias = np.tile((4 + OFFSETS).ravel() / 8, 2)
        graph.head(f"points_{stride}", f"cells_{stride}", np.zeros((20, 3)), bias, [-1, 10], clip=False)
    return graph.save(path)


def with_red(height: int, width: int, *cells: tuple[int, int, int]) -> np.ndarray:
    """A black picture with red squares (left, top, side)."""
    picture = np.zeros((height, width, 3), np.uint8)
    for left, top, side in cells:
        picture[top : top + side, left : left + side] = RED
    return picture


def points_at(x: float, y: float, enlarged: float = 1) -> np.ndarray:
    """The landmarks of a face whose cell has its middle at x, y."""
    return enlarged * OFFSETS + np.array([x, y])
