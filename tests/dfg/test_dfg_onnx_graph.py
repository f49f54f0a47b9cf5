"""Graphs that somebody brings, made by hand: what is read of them, up to each bound, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfg.onnx_graph import (
    FaceInput,
    Map,
    _locations,
    check_external,
    face_input,
    find_maps,
    in_short,
    read_graph,
    with_output,
)
from dfg.onnx_identity import OnnxIdentityEncoder


def _chain(nodes, shape=("N", 3, 16, 16), opsets=(("", 13),)):
    """Identities one behind another, t0 to tN, of one input."""
    names = ["face", *(f"t{number}" for number in range(len(nodes)))]
    graph = helper.make_graph(
        [helper.make_node(kind, [names[n]], [names[n + 1]]) for n, kind in enumerate(nodes)],
        "chain",
        [helper.make_tensor_value_info("face", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets])


@pytest.mark.parametrize(
    ("opsets", "refused"),
    [
        ([("", 0)], False),
        ([("", 1)], True),
        ([("ai.onnx", 1)], True),
        ([("", 0), ("com.microsoft", 1)], False),
        ([("ai.onnx", 0), ("", -1)], False),
    ],
)
def test_the_newest_opset_that_is_known_is_the_last_one(tmp_path, opsets, refused):
    known = onnx.defs.onnx_opset_version()
    model = _chain(["Relu"], opsets=[(domain, known + above) for domain, above in opsets])
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    if refused:
        with pytest.raises(ValueError, match=f"is of opset {known + 1}, and the installed onnx knows {known}"):
            read_graph(tmp_path / "a.onnx")
    else:
        assert read_graph(tmp_path / "a.onnx").graph.name == "chain"


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        (("N", 3, 16, 16), FaceInput("face", 0, 16)),
        ((4, 3, None, 16), FaceInput("face", 4, 16)),
        ((1, None, 24, None), FaceInput("face", 1, 24)),
        ((None, None, None, None), FaceInput("face", 0, 112)),
    ],
)
def test_what_a_graph_leaves_open_is_filled_in(tmp_path, shape, found):
    assert face_input(_chain(["Relu"], shape), tmp_path) == found


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 16, 16, 3), r"takes \(1, 16, 16, 3\) \(channels last\); a face"),
        ((1, 4, 16, None), r"takes \(1, 4, 16, any\); a face"),
        ((1, 3, 16, 17), r"takes \(1, 3, 16, 17\); a face"),
        ((16, 16, 3), r"takes \(16, 16, 3\); a face"),
        ((1, 3, 16, 16, 3), r"takes \(1, 3, 16, 16, 3\); a face"),
    ],
)
def test_what_is_no_picture_is_shown(tmp_path, shape, words):
    with pytest.raises(ValueError, match=words):
        face_input(_chain(["Relu"], shape), tmp_path)


def test_maps_are_square_and_larger_than_one_cell():
    model = _chain(["Relu", "GlobalAveragePool", "Relu"], (1, 3, 16, 16))
    assert find_maps(model, FaceInput("face", 1, 16)) == {"t0": Map(3, 16, TensorProto.FLOAT)}
    assert str(Map(3, 16, 1)) == "3x16x16"
    free = _chain(["Relu"], ("N", None, None, None))
    assert find_maps(free, FaceInput("face", 0, 2)) == {"t0": Map(3, 2, TensorProto.FLOAT)}
    assert free == _chain(["Relu"], ("N", None, None, None))  # is left as it was
    wide = _chain(["Relu"], (1, 3, 16, 8))
    assert find_maps(wide, FaceInput("other", 1, 16)) == {}


def test_a_tensor_is_an_output_once():
    model = _chain(["Relu", "Relu"])
    outputs = [output.name for output in with_output(model, "t0", TensorProto.FLOAT).graph.output]
    assert outputs == ["t1", "t0"]
    assert [output.name for output in with_output(model, "t1", TensorProto.FLOAT).graph.output] == ["t1"]
    assert [output.name for output in model.graph.output] == ["t1"]


def test_errors_of_others_are_shortened_and_weights_lie_inside(tmp_path):
    assert in_short(ValueError("one\n  two " + "x" * 300)) == "one two " + "x" * 192
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "w").write_bytes(b"")
    check_external(tmp_path / "a.onnx", ["inner/w"])
    for name in ("inner\\..\\..\\w", "inner/../w", "\\w"):
        with pytest.raises(ValueError, match="outside its folder"):
            check_external(tmp_path / "a.onnx", [name])
    with pytest.raises(ValueError, match="no such file beside it"):
        check_external(tmp_path / "a.onnx", ["inner"])


def test_weights_inside_branches_are_found():
    def stored(name):
        tensor = numpy_helper.from_array(np.zeros(1, np.float32), name)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="offset", value="0")
        tensor.external_data.add(key="location", value=f"{name}.bin")
        return tensor

    def branch(name):
        node = helper.make_node("Constant", [], [name], value=stored(name))
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("one"), else_branch=branch("two"))
    listed = helper.make_node("Other", ["c"], ["z"])
    listed.attribute.add(name="tensors", type=onnx.AttributeProto.TENSORS).tensors.append(stored("three"))
    listed.attribute.add(name="graphs", type=onnx.AttributeProto.GRAPHS).graphs.append(branch("four"))
    graph = helper.make_graph(
        [node, listed], "g", [], [], [stored("five"), numpy_helper.from_array(np.zeros(1), "here")]
    )
    model = helper.make_model(graph)
    assert _locations(model) == ["five.bin", "four.bin", "one.bin", "three.bin", "two.bin"]


def test_the_last_eight_maps_are_listed(tmp_path):
    onnx.save(_chain(["Relu"] * 10), str(tmp_path / "a.onnx"))
    listed = ", ".join(rf"t{number} \(3x16x16\)" for number in range(2, 10))
    with pytest.raises(ValueError, match=rf"no map named 'x'; its last ones are {listed}\."):
        OnnxIdentityEncoder.from_onnx(tmp_path / "a.onnx", "x")
    onnx.save(_chain(["GlobalAveragePool"]), str(tmp_path / "a.onnx"))
    with pytest.raises(ValueError, match="has no inner tensor of shape"):
        OnnxIdentityEncoder.from_onnx(tmp_path / "a.onnx")
