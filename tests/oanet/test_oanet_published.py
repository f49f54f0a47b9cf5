"""What is known of published networks and their files, and insightface's add-on up to the bounds of what it takes."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from published_parts import save_liveness

from oanet.detectors import build_detector
from oanet.detectors.insightface_liveness import TEMPLATE, _similarity
from oanet.names import DETECTORS
from oanet.published import _is_readable, publication, published_names, sight


def addon_graph(path: Path, side: int = 80, kind: int = TensorProto.FLOAT, more: str = "", flat: bool = True) -> Path:
    """The mean of all pixels, or a graph that differs in one thing from the add-on's."""
    node = helper.make_node("ReduceMean", ["face"], ["live"], axes=[1, 2, 3], keepdims=0 if flat else 1)
    inputs = [helper.make_tensor_value_info("face", kind, ["N", 3, side, side])]
    outputs = [helper.make_tensor_value_info("live", kind, ["N"] if flat else ["N", 1, 1, 1])]
    nodes = [node]
    if more == "input":
        inputs.append(helper.make_tensor_value_info("mask", kind, ["N"]))
    if more == "output":
        nodes.append(helper.make_node("Relu", ["live"], ["other"]))
        outputs.append(helper.make_tensor_value_info("other", kind, ["N"]))
    model = helper.make_model(
        helper.make_graph(nodes, "addon", inputs, outputs), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def test_a_graph_is_the_addons_by_all_of_its_ends(tmp_path: Path) -> None:
    kind = DETECTORS.load("insightface_liveness")
    assert kind.recognises(addon_graph(tmp_path / "a.onnx"))
    assert not kind.recognises(addon_graph(tmp_path / "a.bin"))
    changes: list[dict[str, Any]] = [
        {"side": 64}, {"kind": TensorProto.FLOAT16}, {"more": "input"}, {"more": "output"}, {"flat": False}
    ]  # fmt: skip
    for change in changes:
        assert not kind.recognises(addon_graph(tmp_path / "b.onnx", **change)), change


def test_a_score_is_a_probability_of_one_face() -> None:
    detector: Any = build_detector("insightface_liveness")
    given: list[Any] = [0]
    detector._session = SimpleNamespace(
        run=lambda *_: (np.array(given[0]),), get_inputs=lambda: [SimpleNamespace(name="face")]
    )
    for given[0] in ([0.0], [1.0]):
        assert detector(torch.zeros(1, 3, 80, 80)).features.tolist() == given
    for given[0] in ([-0.01], [1.01], [math.nan], [0.5, 0.5], 0.5):
        with pytest.raises(ValueError, match="no probability of a live face"):
            detector(torch.zeros(1, 3, 80, 80))
    assert detector.num_parameters() == 0
    assert detector.get_extra_state().numel() == 0


def test_the_addon_runs_on_the_cpu_and_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    asked: list[Any] = []
    plain = onnxruntime.InferenceSession

    def opened(graph: bytes, options: Any, providers: list[str]) -> Any:
        asked.append((options.log_severity_level, providers))
        return plain(graph, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    detector = build_detector("insightface_liveness", weights=save_liveness(tmp_path / "any.onnx"))
    twin = copy.deepcopy(detector)
    detector(torch.zeros(1, 3, 80, 80))
    assert asked == [(4, ["CPUExecutionProvider"])]
    twin(torch.zeros(1, 3, 80, 80))
    assert len(asked) == 2


def test_other_files_are_not_taken_for_published_ones(tmp_path: Path) -> None:
    for name in (*published_names(), "oanet"):
        kind = DETECTORS.load(name)
        for file in ("x.pt", "x.pth", "x.onnx", "x.txt"):
            (tmp_path / file).write_text("neither")
            assert kind.recognises(tmp_path / file) is False
    torch.save({"model": {"other": torch.ones(1)}}, tmp_path / "x.pt")
    assert [DETECTORS.load(name).recognises(tmp_path / "x.pt") for name in published_names()] == [False] * 3


def test_the_smallest_face_is_placed_on_the_template() -> None:
    face = TEMPLATE.astype(np.float64)
    matrix = _similarity(face * 1.05e-7)
    np.testing.assert_allclose(face * 1.05e-7 @ matrix[:, :2].T + matrix[:, 2], face, atol=1e-4)


def test_points_that_no_similarity_brings_near_a_face_are_refused() -> None:
    centred = TEMPLATE.astype(np.float64) - TEMPLATE.mean(axis=0)
    apart = centred @ np.linalg.inv(centred.T @ centred) @ np.diag([1.0, -1.0])
    with pytest.raises(ValueError, match="are no face's, so that it cannot be aligned"):
        _similarity(100 * apart)


def test_large_files_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.pt").open("wb") as file:
        file.truncate(100_000_000)
        assert _is_readable(tmp_path / "x.pt")
        file.truncate(100_000_001)
    assert not _is_readable(tmp_path / "x.pt")
    assert not _is_readable(tmp_path)


def test_what_is_published_is_told() -> None:
    assert published_names() == ["liveness_vit", "minifasnet", "insightface_liveness"]
    assert {name: publication(name).count for name in published_names()} == {
        "liveness_vit": 1, "minifasnet": 2, "insightface_liveness": 1
    }  # fmt: skip
    with pytest.raises(ValueError, match="Unknown published network 'oanet'"):
        publication("oanet")
    assert sight("liveness_vit", {"weights": "x", "sees": "crop"}) == "crop"
    assert sight("liveness_vit", {"sees": "picture"}) == "picture"
