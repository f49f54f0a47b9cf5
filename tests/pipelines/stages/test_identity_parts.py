"""The identity encoder before the generator: none, loaded or trained, by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_parts import make_faces

from pipelines.errors import AgfasError
from pipelines.experiment.file import build_experiment
from pipelines.stages import train_identity


def experiment(**identity):
    return build_experiment({"identity": identity}, "the test")


def test_given_weights_are_loaded_with_their_options(monkeypatch, tmp_path):
    seen = []
    backbone, onnx = SimpleNamespace(), SimpleNamespace()
    backbone.from_backbone_pth = lambda *given: seen.append(given) or "a backbone"
    onnx.from_onnx = lambda *given, **more: seen.append((*given, more)) or "a pack"
    monkeypatch.setattr(train_identity, "IdentityEncoder", backbone)
    monkeypatch.setattr(train_identity, "OnnxIdentityEncoder", onnx)
    assert train_identity.run(experiment(name="none"), None) is None
    path = tmp_path / "w"
    found = experiment(name="backbone", path=str(path), preset="iresnet50")
    assert train_identity.run(found, None) == "a backbone"
    found = experiment(name="onnx", path=str(path), tensor="t", input_mean=1.5, input_scale=2.5)
    assert train_identity.run(found, None) == "a pack"
    assert seen == [(path, "iresnet50"), (path, {"tensor": "t", "input_mean": 1.5, "input_scale": 2.5})]

    def fails(*_, **__):
        raise OSError("no file")

    onnx.from_onnx = fails
    with pytest.raises(AgfasError, match=rf"^The identity encoder {path} cannot be used: no file$"):
        train_identity.run(found, None)


@pytest.mark.parametrize("done", [True, False])
def test_an_encoder_is_trained_once_from_a_seed_of_its_own(monkeypatch, tmp_path, done):
    seen, finished = [], []
    run = SimpleNamespace(folder=tmp_path, was_done=done, finish=finished.append)
    workspace = SimpleNamespace(identity=lambda: "place", identity_key=lambda: "key")
    monkeypatch.setattr(train_identity, "Workspace", lambda given: workspace)
    monkeypatch.setattr(train_identity, "Run", lambda *given: seen.append(given[:2]) or run)
    encoder = SimpleNamespace(save_pretrained="saving")
    presets = SimpleNamespace(from_preset=lambda name: seen.append((name, torch.rand(1).item())) or encoder)
    monkeypatch.setattr(train_identity, "IdentityEncoder", presets)
    monkeypatch.setattr(train_identity, "ArcFaceObjective", lambda *given: given)
    monkeypatch.setattr(train_identity, "fit", lambda *given, **how: seen.append((given, how)))
    monkeypatch.setattr(train_identity, "verification_auc", lambda *given: 0.75)
    monkeypatch.setattr(train_identity, "write_sealed", lambda *given: seen.append(given))
    monkeypatch.setattr(train_identity, "folder_sha256", lambda folder: f"sum of {folder.name}")
    monkeypatch.setattr(train_identity, "load_identity", lambda folder: f"loaded from {folder}")
    given = experiment(preset="iresnet18", domains=["a"], scale=16.0, margin=0.2, loop={"batch_size": 3})
    faces = make_faces()
    torch.manual_seed(5)
    assert train_identity.run(given, faces) == f"loaded from {tmp_path}"
    assert seen.pop(0) == ("place", "key")
    if done:
        assert seen == finished == []
        return
    torch.manual_seed(0)
    assert seen[0] == ("iresnet18", torch.rand(1).item())
    (objective, batches, loop, training), how = seen[1]
    assert objective == (encoder, batches.num_identities, 16.0, 0.2)
    assert (batches.size, batches.seed, len(batches.indices)) == (3, 0, 12)
    assert (loop, training, how) == (given.identity.loop, run, {"title": "identity encoder"})
    assert seen[2] == (Path(tmp_path) / "model", "saving")
    (summary,) = finished
    assert summary == {
        "identities": batches.num_identities, "faces": 12, "verification_auc": 0.75, "weights_sha256": "sum of model"
    }  # fmt: skip
