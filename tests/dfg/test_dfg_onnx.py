import copy
import logging

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from dfg.onnx_graph import external_names
from dfg.onnx_identity import OnnxIdentityEncoder, providers_for
from dfg.pipeline import DeFakePipeline
from dfg.schedule import sd_scheduler


def _write_recogniser(path, batch: int | str = 1, normalises: bool = False) -> np.ndarray:
    """16 px RGB -> conv 3x3, stride 2 -> PReLU "map" (6, 8, 8) -> mean -> embedding (6); the conv's weight."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(6, 3, 3, 3)).astype(np.float32)
    initial = {
        "weight": weight,
        "slope": np.full((6, 1, 1), 0.25, np.float32),
        "half": np.array(127.5, np.float32),
        "scale": np.array(1 / 127.5, np.float32),
    }
    first = [
        helper.make_node("Sub", ["face", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["x"]),
    ]
    nodes = [
        *(first if normalises else [helper.make_node("Identity", ["face"], ["x"])]),
        helper.make_node("Conv", ["x", "weight"], ["conv"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("PRelu", ["conv", "slope"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("face", TensorProto.FLOAT, [batch, 3, 16, 16])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 6])],
        [numpy_helper.from_array(array, name) for name, array in initial.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return weight


def _slow_map(faces: torch.Tensor, weight: np.ndarray) -> torch.Tensor:
    small = F.interpolate(faces, (16, 16), mode="bilinear", align_corners=False)
    return F.leaky_relu(F.conv2d(small, torch.from_numpy(weight), stride=2, padding=1), 0.25)


@pytest.fixture
def recogniser(tmp_path):
    return tmp_path / "recogniser.onnx"


@pytest.mark.parametrize("batch", [1, "N"])
def test_tokens_are_the_inner_map(recogniser, faces, batch):
    weight = _write_recogniser(recogniser, batch)
    encoder = OnnxIdentityEncoder.from_onnx(recogniser, "map")
    wanted = _slow_map(faces, weight)
    assert (encoder.num_tokens, encoder.token_dim) == (64, 6)
    torch.testing.assert_close(encoder(faces), wanted.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)
    embedding = F.normalize(wanted.mean((2, 3)))
    torch.testing.assert_close(encoder.embed(faces), embedding, atol=1e-4, rtol=1e-4)


def test_a_batch_equals_its_singles(recogniser, faces):
    _write_recogniser(recogniser)
    encoder = OnnxIdentityEncoder.from_onnx(recogniser)
    singles = torch.cat([encoder(face[None]) for face in faces])
    assert torch.equal(encoder(faces), singles)


def test_the_last_map_is_found_and_named(recogniser, caplog):
    _write_recogniser(recogniser)
    with caplog.at_level(logging.INFO, logger="dfg.onnx_identity"):
        encoder = OnnxIdentityEncoder.from_onnx(recogniser)
    assert encoder.config["tensor"] == "map"
    assert "the tensor map" in caplog.text


def test_a_graph_that_normalises_gets_bytes(recogniser, faces):
    weight = _write_recogniser(recogniser, normalises=True)
    encoder = OnnxIdentityEncoder.from_onnx(recogniser)
    assert (encoder.config["input_mean"], encoder.config["input_scale"]) == (0, 1)
    wanted = _slow_map(faces, weight).flatten(2).transpose(1, 2)
    torch.testing.assert_close(encoder(faces), wanted, atol=1e-4, rtol=1e-4)


def test_mean_and_scale_are_used(recogniser, faces):
    weight = _write_recogniser(recogniser)
    encoder = OnnxIdentityEncoder.from_onnx(recogniser, input_mean=127, input_scale=128)
    pixels = ((faces + 1) * 127.5 - 127) / 128
    torch.testing.assert_close(
        encoder(faces), _slow_map(pixels, weight).flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4
    )


def test_unknown_tensors_are_refused_with_the_known_ones(recogniser):
    _write_recogniser(recogniser)
    with pytest.raises(ValueError, match=r"no map named '507'; .* conv \(6x8x8\), map \(6x8x8\)"):
        OnnxIdentityEncoder.from_onnx(recogniser, "507")


def changed(recogniser, change, **saving):
    model = onnx.load(str(recogniser))
    change(model)
    onnx.save(model, str(recogniser), **saving)


def set_input(kind=TensorProto.FLOAT, shape=(1, 3, 16, 16)):
    def change(model):
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("face", kind, shape))

    return change


def add_input(model):
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def set_opset(model):
    model.opset_import[0].version = 999


def give_columns(model):
    model.graph.node[-1].CopyFrom(helper.make_node("Squeeze", ["pooled"], ["embedding"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [6]))


def give_nan(model):
    next(one for one in model.graph.initializer if one.name == "slope").CopyFrom(
        numpy_helper.from_array(np.full((6, 1, 1), np.nan, np.float32), "slope")
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_input(shape=(1, 16, 16, 3)), "takes .1, 16, 16, 3. .channels last."),
        (set_input(shape=(1, 1, 16, 16)), "takes .1, 1, 16, 16.; a face recogniser takes RGB"),
        (set_input(shape=(1, 3, 16, 24)), "takes .1, 3, 16, 24."),
        (set_input(shape=(3, 16)), "takes .3, 16."),
        (set_input(kind=TensorProto.UINT8), "takes UINT8 pictures"),
        (set_input(kind=TensorProto.FLOAT16), "does not run"),
        (add_input, "has 2 inputs .face, mask."),
        (lambda model: model.graph.input.pop(), "has 0 inputs"),
        (set_opset, "opset 999"),
        (lambda model: setattr(model, "ir_version", 999), "does not run"),
        (lambda model: setattr(model.graph.node[1], "op_type", "NoSuch"), "No Op registered"),
        (give_columns, "does not run"),
        (give_nan, "not finite"),
        (lambda model: model.graph.ClearField("node"), "holds no graph"),
    ],
)
def test_a_foreign_graph_is_refused_in_one_sentence(recogniser, change, words):
    _write_recogniser(recogniser)
    changed(recogniser, change)
    with pytest.raises(ValueError, match=f"^{recogniser} .*{words}") as refusal:
        OnnxIdentityEncoder.from_onnx(recogniser)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (b"<html>", "not an ONNX"),
        (b"", "no graph"),
    ],
)
def test_what_is_no_graph_is_refused(recogniser, content, words):
    recogniser.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{recogniser} is .*{words}"):
        OnnxIdentityEncoder.from_onnx(recogniser)


@pytest.mark.parametrize(
    ("location", "words"),
    [("lost.data", "lost.data, and there is no such"), ("../x", "outside"), ("/x", "outside"), ("short", "beside it")],
)
def test_weights_beside_the_graph_must_be_there(recogniser, location, words):
    _write_recogniser(recogniser)
    changed(recogniser, lambda model: None, save_as_external_data=True, location="kept", size_threshold=0)
    assert external_names(recogniser) == ["kept"]
    OnnxIdentityEncoder.from_onnx(recogniser)
    (recogniser.parent / "short").write_bytes(b"1234")
    model = onnx.load(str(recogniser), load_external_data=False)
    for entry in (entry for tensor in model.graph.initializer for entry in tensor.external_data):
        entry.value = location if entry.key == "location" else entry.value
    recogniser.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=f"^{recogniser} .*{words}"):
        OnnxIdentityEncoder.from_onnx(recogniser)


def _half(model):
    set_input(kind=TensorProto.FLOAT16)(model)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    for one in model.graph.initializer:
        one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one).astype(np.float16), one.name))


def _one_at_a_time(model):
    model.graph.node[-1].CopyFrom(helper.make_node("Reshape", ["pooled", "shape"], ["embedding"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 6]), "shape"))


@pytest.mark.parametrize(
    ("batch", "change"),
    [
        (4, lambda model: None),
        (3, lambda model: None),
        (1, _half),
        ("N", _one_at_a_time),
        ("N", set_input(shape=("N", 3, 16, None))),
        ("N", set_input(shape=("N", None, 16, 16))),
    ],
)
def test_graphs_of_other_batches_and_number_types_give_the_same_tokens(recogniser, faces, batch, change):
    weight = _write_recogniser(recogniser, batch)
    changed(recogniser, change)
    encoder = OnnxIdentityEncoder.from_onnx(recogniser, "map")
    wanted = _slow_map(faces, weight)
    tolerance = {"atol": 2e-3, "rtol": 2e-3} if change is _half else {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(encoder(faces), wanted.flatten(2).transpose(1, 2), **tolerance)
    torch.testing.assert_close(encoder.embed(faces[:3]), F.normalize(wanted[:3].mean((2, 3))), **tolerance)


def test_an_empty_encoder_says_how_to_fill_it(faces):
    with pytest.raises(ValueError, match="from_onnx"):
        OnnxIdentityEncoder("map", 6, 64)(faces)


def test_it_survives_copies_and_the_pipelines_folder(recogniser, faces, keys, autoencoder, unet, tmp_path):
    _write_recogniser(recogniser)
    encoder = OnnxIdentityEncoder.from_onnx(recogniser)
    assert torch.equal(copy.deepcopy(encoder)(faces), encoder(faces))
    pipeline = DeFakePipeline(autoencoder, unet, sd_scheduler(), encoder)
    pipeline.save_pretrained(tmp_path / "dfg")
    recogniser.unlink()
    loaded = DeFakePipeline.from_pretrained(tmp_path / "dfg")
    assert isinstance(loaded.identity_encoder, OnnxIdentityEncoder)
    ours, theirs = (p(faces, timestep=201, num_inference_steps=10, keys=keys).image for p in (pipeline, loaded))
    assert torch.equal(ours, theirs)


CUDA_PROVIDER, CPU_PROVIDER = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("device", "available", "chosen"),
    [
        ("cpu", [CPU_PROVIDER], [CPU_PROVIDER]),
        ("cpu", ["TensorrtExecutionProvider", CUDA_PROVIDER, CPU_PROVIDER], [CPU_PROVIDER]),
        ("cuda", [CPU_PROVIDER], [CPU_PROVIDER]),
        ("cuda", ["TensorrtExecutionProvider", CUDA_PROVIDER, CPU_PROVIDER], [(CUDA_PROVIDER, 0), CPU_PROVIDER]),
        ("cuda:3", [CUDA_PROVIDER, CPU_PROVIDER], [(CUDA_PROVIDER, 3), CPU_PROVIDER]),
        ("mps", [CUDA_PROVIDER, CPU_PROVIDER], [CPU_PROVIDER]),
    ],
)
def test_the_graph_runs_where_the_encoder_is_if_onnxruntime_can(device, available, chosen):
    found = providers_for(torch.device(device), available)
    assert [one if isinstance(one, str) else (one[0], one[1]["device_id"]) for one in found] == chosen


def test_an_encoder_on_a_gpu_opens_a_session_there_and_gives_the_same_tokens(recogniser, faces, lookalike, monkeypatch):
    import onnxruntime

    _write_recogniser(recogniser)
    encoder = OnnxIdentityEncoder.from_onnx(recogniser)
    expected, opened = encoder(faces), []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    def session(graph, options, providers):
        opened.append(providers[0])
        assert (options.intra_op_num_threads, options.log_severity_level) == (3, 3)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        return real(graph, options, providers=[CPU_PROVIDER])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER, CPU_PROVIDER])
    encoder.to("cuda")
    tokens = encoder(faces.to("cuda"))
    assert tokens.is_cuda
    assert torch.equal(tokens.cpu(), expected)
    encoder.to("cpu")
    assert torch.equal(encoder(faces), expected)
    assert opened == [(CUDA_PROVIDER, {"device_id": 0}), CPU_PROVIDER]


@pytest.mark.realdata
def test_mobilefacenet_finds_its_map(realdata, faces):
    path = realdata / "weights" / "mobilefacenet-512.onnx"
    encoder = OnnxIdentityEncoder.from_onnx(path, input_mean=127, input_scale=128)
    assert encoder.config["tensor"] == "507"
    assert encoder(faces).shape == (4, 49, 512)
    assert encoder.embed(faces).shape == (4, 512)


@pytest.mark.parametrize(("before", "mean"), [(6, 0.0), (7, 127.5)])
def test_only_the_first_nodes_tell_whether_a_graph_normalises(recogniser, before, mean):
    _write_recogniser(recogniser, normalises=True)

    def push(model):
        first, *rest = copy.deepcopy(list(model.graph.node))
        names = ["face", *(f"same{number}" for number in range(before))]
        same = [helper.make_node("Identity", [names[n]], [names[n + 1]]) for n in range(before)]
        first.input[0] = names[-1]
        del model.graph.node[:]
        model.graph.node.extend([*same, first, *rest])

    changed(recogniser, push)
    encoder = OnnxIdentityEncoder.from_onnx(recogniser, "map")
    assert encoder.config["input_mean"] == mean
    assert encoder.config["input_scale"] == (127.5 if mean else 1.0)


@pytest.mark.parametrize(
    ("tokens", "embeddings", "words"),
    [
        (torch.zeros(2, 5, 6), torch.ones(2, 6), r"the tensor map becomes tokens of the shape \(2, 5, 6\)"),
        (torch.zeros(2, 4, 5), torch.ones(2, 6), r"the tensor map becomes tokens of the shape \(2, 4, 5\)"),
        (torch.zeros(2, 4, 6), torch.ones(1, 6), "its first output has 1 rows for 2 faces"),
        (torch.full((2, 4, 6), torch.nan), torch.ones(2, 6), "not finite"),
        (torch.tensor([torch.nan] + [0.0] * 47).view(2, 4, 6), torch.ones(2, 6), "not finite"),
        (torch.zeros(2, 4, 6), torch.tensor([[1.0], [torch.inf]]), "not finite"),
        (torch.zeros(2, 4, 6), torch.ones(2, 6), None),
    ],
)
def test_what_a_graph_gives_is_checked_before_it_is_used(monkeypatch, tokens, embeddings, words):
    encoder = OnnxIdentityEncoder("map", 6, 4)
    monkeypatch.setattr(encoder, "forward", lambda faces: tokens)
    monkeypatch.setattr(encoder, "embed", lambda faces: embeddings)
    assert not encoder.state_dict()
    if words is None:
        encoder._check(torch.zeros(2, 3, 8, 8))
    else:
        with pytest.raises(ValueError, match=words):
            encoder._check(torch.zeros(2, 3, 8, 8))
