"""Graphs in int8: whose ranges, which weights, and which layers stay in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from torch import nn

from pipelines.errors import AgfasError
from pipelines.export.int8 import Layers, by_depth, to_int8, write_int8
from pipelines.export.precision import OF_THE_DETECTOR


class Trunk(nn.Module):
    """Two branches: the second starts at the pixels too, though its nodes come last.

    With a large `contrast`, its weights for red and green cancel out in grey, and the small one for blue, which is
    lost in their scale, decides.
    """

    def __init__(self, contrast: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 1)
        self.other = nn.Conv2d(3, 8, 1)
        self.other.weight.data = torch.tensor([contrast, -contrast, 0.3]).reshape(1, 3, 1, 1).expand(8, 3, 1, 1).clone()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        one = self.second(self.first(image).relu()).relu().mean((2, 3))
        return (self.last(one)[:, 0] + 20 * self.other(image).relu().mean((1, 2, 3))).sigmoid()


class Network(nn.Module):
    """A detector whose layers belong to modules of its own, as in an exported graph."""

    def __init__(self, contrast: float) -> None:
        super().__init__()
        self.trunk = Trunk(contrast)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.trunk(image)


class Scores(nn.Module):
    """Pixels to scores."""

    def __init__(self, contrast: float) -> None:
        super().__init__()
        self.detector = Network(contrast)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.detector(faces.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1)


def written(path: Path, contrast: float = 0.3) -> Path:
    names = {"input_names": ["faces"], "output_names": ["score"], "dynamic_axes": {"faces": {0: "batch"}}}
    example = torch.zeros(2, 12, 12, 3, dtype=torch.uint8)
    torch.onnx.export(Scores(contrast).eval(), (example,), path, opset_version=17, dynamo=False, **names)
    return path


def faces(number: int = 32, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Grey noise, from dark to bright faces."""
    random = np.random.default_rng(seed)
    shades = random.normal(np.linspace(30, 220, number)[:, None, None, None], 30, (number, 12, 12, 1))
    drawn = np.clip(shades, 0, 255).astype(np.uint8).repeat(3, axis=3)
    return [{"faces": drawn[start : start + 8]} for start in range(0, number, 8)]


def scales_of(path: Path) -> dict[str, float]:
    """Of activations."""
    found = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    return {name: float(value) for name, value in found.items() if name.endswith("output_0_scale")}


def test_layers_are_in_the_order_of_their_depth(tmp_path):
    names = [name.split("/")[-2] for name in by_depth(written(tmp_path / "model.onnx"))]
    assert names == ["first", "other", "second", "last"]


def test_layers_stay_in_float32_only_where_scores_need_it(tmp_path):
    easy, hard = written(tmp_path / "easy.onnx"), written(tmp_path / "hard.onnx", 64.0)
    assert to_int8(easy, faces(), 0.1) == Layers(0, 4)
    assert to_int8(hard, faces(), 0.1) == Layers(2, 4)
    weights = {each.name for each in onnx.load(hard).graph.initializer}
    assert {name for name in weights if name.endswith("weight")} == {
        f"detector.trunk.{one}.weight" for one in ("first", "other")
    }


def test_weights_have_seven_bits_and_what_a_relu_cuts_off_no_level(tmp_path):
    path, made = written(tmp_path / "model.onnx"), tmp_path / "made.onnx"
    write_int8(path, made, faces(), by_depth(path))
    graph = onnx.load(made).graph
    values = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    quantised = [value for name, value in values.items() if name.endswith("weight_quantized")]
    assert len(quantised) == 4
    assert max(np.abs(value.astype(int)).max() for value in quantised) == 64
    assert not [node for node in graph.node if node.op_type == "Relu"]
    zeros = [
        int(values[node.input[2]])
        for node in graph.node
        if node.op_type == "QuantizeLinear" and "Relu" in node.input[0]
    ]
    assert zeros == [0] * len(zeros) != []


def test_ranges_are_those_of_all_faces_given(tmp_path):
    path = written(tmp_path / "model.onnx")
    dull = [{"faces": each["faces"] // 8 + 112} for each in faces()]
    for name, given in (("dull", dull), ("all", dull + faces())):
        write_int8(path, tmp_path / f"{name}.onnx", given, by_depth(path))
    scales = [scales_of(tmp_path / f"{name}.onnx") for name in ("dull", "all")]
    assert all(scales[1][name] > scale for name, scale in scales[0].items())


def test_a_graph_without_a_layer_is_refused(tmp_path):
    path = written(tmp_path / "model.onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = node.name.replace(OF_THE_DETECTOR, "/generator/")
    onnx.save(model, path)
    with pytest.raises(AgfasError, match="no convolution and no product"):
        to_int8(path, faces(), 0.1)
