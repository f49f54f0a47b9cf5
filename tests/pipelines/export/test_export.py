"""An exported folder: whole, as good as the model it was made of, or not there at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from detection_graphs import RED, tiny_yunet
from exported_models import SIZE, generator, some_faces, untrained
from PIL import Image

from pipelines.cues.settings import CueSettings
from pipelines.data.enhance import Enhancement
from pipelines.errors import AgfasError
from pipelines.export import parity, predict
from pipelines.export.folder import export_folder
from pipelines.stages import export as stage
from pipelines.verdict import FaceAntiSpoofing
from pipelines.verdict.exported import is_exported


@pytest.fixture(scope="module")
def yunet(tmp_path_factory) -> Path:
    return tiny_yunet(tmp_path_factory.mktemp("yunet") / "tiny.onnx")


@pytest.fixture(scope="module")
def model(yunet) -> FaceAntiSpoofing:
    return untrained("resnet18", yunet=yunet)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_folder(model, folder, some_faces)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """One with two faces, one turned by EXIF, one without a face, and one that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(2)
    photo = random.integers(0, 120, (120, 160, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    photo[..., 1:] = np.maximum(photo[..., 1:], photo[..., :1])
    for left, top in ((64, 80), (224, 160)):
        photo[top : top + 8, left : left + 8] = RED
    Image.fromarray(photo).save(folder / "two.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).rotate(90, expand=True).save(folder / "turned.png", exif=exif)
    Image.fromarray(np.full((50, 50, 3), 90, np.uint8)).save(folder / "none.png")
    (folder / "text.png").write_text("no picture")
    return sorted(folder.iterdir())


def test_the_folder_is_whole(exported):
    names = sorted(path.relative_to(exported).as_posix() for path in exported.rglob("*"))
    assert names == [
        "README.md",
        "face_detector",
        "face_detector/tiny.onnx",
        "model.onnx",
        "predict.py",
        "settings.json",
    ]
    assert (exported / "predict.py").read_bytes() == Path(predict.__file__).read_bytes()
    card = (exported / "README.md").read_text()
    assert "python predict.py" in card
    assert "the largest difference of a score is" in card
    settings = json.loads((exported / "settings.json").read_text())
    assert settings["model"]["threshold"]["origin"] == "of a test"
    assert settings["parity"]["largest"] < 1e-5


def test_every_path_gives_the_models_answers(model, exported, pictures):
    expected = model(pictures)
    assert [answer.verdict for answer in expected[:2]] == ["no face", "refused"]
    for found in (FaceAntiSpoofing.from_pretrained(exported)(pictures), list(map(predict.Model(exported), pictures))):
        assert [answer.verdict for answer in found] == [answer.verdict for answer in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.threshold == other.threshold
            if other.score is not None:
                assert one.reason == other.reason
                assert one.score == pytest.approx(other.score, abs=1e-6)


def test_boxes_and_crops_are_the_models(model, exported, pictures):
    answers = [predict.Model(exported)(pictures[2]), predict.Model(exported)(np.asarray(Image.open(pictures[3])))]
    for answer, other in zip(answers, model(pictures[2:4]), strict=True):
        assert answer.box == other.faces[0].box
    crop = np.random.default_rng(1).integers(0, 256, (90, 91, 3), dtype=np.uint8)
    assert predict.Model(exported)(crop, aligned=True).score == pytest.approx(
        model(crop, aligned=True)[0].score, abs=1e-6
    )
    for wrong in (crop[:, :50], crop[:9, :9], crop.astype(float)):
        assert predict.Model(exported)(wrong, aligned=True).verdict == "refused"


def test_the_command_line_answers_for_each(exported, pictures, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict.py", "--model", str(exported), *map(str, pictures[:3])])
    assert predict.main() == 1
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()][:2] == ["no face", "refused"]
    monkeypatch.setattr(sys, "argv", ["predict.py", "--json", "--model", str(exported), str(pictures[2])])
    assert predict.main() == 0
    assert json.loads(capsys.readouterr().out)["verdict"] in ("live", "attack")
    monkeypatch.setattr(sys, "argv", ["predict.py", "--model", str(exported.parent), str(pictures[2])])
    assert predict.main() == 1
    assert "settings.json" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_fewer_bits_cost_a_little(model, exported, tmp_path, precision):
    made = export_folder(model, tmp_path / "model", some_faces, precision, aligned_only=True)
    assert made.parity is not None
    assert 0 < made.parity.largest < 0.1
    shares = (tmp_path / "model" / "model.onnx").stat().st_size / (exported / "model.onnx").stat().st_size
    assert shares < {"float16": 0.6, "int8": 0.75}[precision]


def test_beyond_the_tolerance_nothing_is_left(model, tmp_path, monkeypatch):
    monkeypatch.setitem(parity.TOLERANCES, "float32", (-1.0, 0.0))
    with pytest.raises(AgfasError, match=r"does not score like the model: 5 faces \(of a test\)"):
        export_folder(model, tmp_path / "model", some_faces)
    assert not list(tmp_path.iterdir())


def test_changed_verdicts_count_too():
    made = parity.Parity(faces=10, of="x", largest=0.0, changed=3, most=0.1, most_changed=2)
    assert not made.holds
    assert replace_changed(made, 2).holds
    assert "and 3 verdicts change (accepted: 2)" in made.words
    assert "and 1 verdict changes (accepted: 2)" in replace_changed(made, 1).words


def replace_changed(made: parity.Parity, changed: int) -> parity.Parity:
    return made.model_copy(update={"changed": changed})


REFUSED = {
    "box": ({"detector": "minifasnet"}, "cuts its own crops out of the whole picture around the face's box"),
    "points": ({"detector": "insightface_liveness"}, "by the face's points"),
    "enhanced": ({"enhancement": Enhancement().fingerprint()}, "crops are enhanced"),
    "masked": ({"cue": {"mask": "face"}}, "masked by a face parser"),
    "control": ({"cue": {"source": "zero"}}, "made by no generator"),
    "many calls": ({"cue": {"calls": 3}}, "called 3 times a face"),
    "bfloat16": ({"cue": {"dtype": "bfloat16"}}, "in bfloat16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_graph_holds_is_refused(tmp_path, model, case):
    given, words = REFUSED[case]
    settings = model.settings
    if "detector" in given:
        settings = settings.model_copy(update={"detector": given["detector"], "sees": case})
    if "enhancement" in given:
        settings = settings.model_copy(update={"face": settings.face.model_copy(update=given)})
    if "cue" in given:
        settings = settings.model_copy(update={"cue": CueSettings(**given["cue"])})
    one = FaceAntiSpoofing.__new__(FaceAntiSpoofing)
    one.settings, one.scorer, one.loaded = settings, model.scorer, model.loaded
    if "cue" in given:
        one.scorer = untrained("resnet18").scorer
        one.scorer.maker = generator()
    with pytest.raises(AgfasError, match=words):
        export_folder(one, tmp_path / "model", some_faces)
    assert not list(tmp_path.iterdir())


def test_face_detectors_that_opencv_does_not_run_are_refused(tmp_path, model):
    bare = untrained("resnet18")
    with pytest.raises(AgfasError, match="--face-detector yunet"):
        export_folder(bare, tmp_path / "model", some_faces)
    bare.loaded = replace(model.loaded, detector_weights=None)
    with pytest.raises(AgfasError, match="--aligned-only"):
        export_folder(bare, tmp_path / "model", some_faces)


def test_another_folder_is_not_replaced_and_an_exported_one_is(exported, model, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("x")
    with pytest.raises(AgfasError, match="not an exported model"):
        export_folder(model, tmp_path / "other", some_faces)
    folder = Path(shutil.copytree(exported, tmp_path / "copy"))
    export_folder(model, folder, some_faces, aligned_only=True)
    assert not (folder / "face_detector").exists()
    (answer,) = FaceAntiSpoofing.from_pretrained(folder)(some_faces(40).crops[:1])
    assert answer.score == pytest.approx(model(some_faces(40).crops[:1], aligned=True)[0].score, abs=1e-6)


def test_a_changed_folder_is_refused_in_a_sentence(exported, tmp_path):
    folder = Path(shutil.copytree(exported, tmp_path / "copy"))
    with (folder / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(AgfasError, match="its hash differs"):
        FaceAntiSpoofing.from_pretrained(folder)
    with pytest.raises(ValueError, match="is not the file that was exported"):
        predict.Model(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(AgfasError, match=r"lacks model\.onnx"):
        FaceAntiSpoofing.from_pretrained(folder)


def test_settings_of_something_else_are_refused(exported, tmp_path):
    folder = Path(shutil.copytree(exported, tmp_path / "copy"))
    content = json.loads((folder / "settings.json").read_text())
    del content["_sha256"]
    for change, words in (
        ({"format": "other"}, "not of an exported model"),
        ({"version": 9}, "newer version"),
        ({"points": "none"}, "points"),
        ({"files": {"../model.onnx": "0"}}, "not a path inside"),
        ({"files": {}}, "its hash differs"),
    ):
        (folder / "settings.json").write_text(json.dumps(content | change))
        with pytest.raises(AgfasError, match=words):
            FaceAntiSpoofing.from_pretrained(folder)


def test_an_exported_model_is_neither_saved_nor_exported_again(exported, tmp_path):
    opened = FaceAntiSpoofing.from_pretrained(exported)
    with pytest.raises(AgfasError, match="holds no weights to save"):
        opened.save_pretrained(tmp_path / "saved")
    with pytest.raises(AgfasError, match="exported model already"):
        export_folder(opened, tmp_path / "again", some_faces)
    assert is_exported(exported)
    (tmp_path / "saved").mkdir()
    for name in ("settings.json", "anti_spoofing.json"):
        (tmp_path / "saved" / name).write_text("{}")
    assert not is_exported(tmp_path / "saved")
    assert opened.rehearse().panels["face"].shape == (SIZE, SIZE, 3)


def test_the_stage_exports_a_saved_model(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "saved")
    monkeypatch.setattr(parity, "drawn_faces", some_faces)
    words = stage.run(tmp_path / "saved", tmp_path / "out", stage.Choice())
    assert words.startswith("5 faces (of a test): the largest difference of a score is")
    assert "float32)" in words
    for choice, wrong in ((stage.Choice(form="tflite"), "--format tflite"), (stage.Choice(precision="int4"), "int8")):
        with pytest.raises(AgfasError, match=wrong):
            stage.run(tmp_path / "saved", tmp_path / "other", choice)


def test_parity_is_judged_on_drawn_faces_of_every_kind():
    faces = parity.drawn_faces(33, number=3, others=1)
    assert faces.crops.shape == (3, 33, 33, 3)
    assert faces.others.shape == (1, 33, 33, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "near"), [("float32", 1e-5), ("float16", 0.01)])
def test_openvino_gives_the_same_answers(model, pictures, tmp_path, precision, near):
    pytest.importorskip("openvino")
    export_folder(model, tmp_path / "model", some_faces, precision, "openvino")
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {"model.xml", "model.bin"}
    found = FaceAntiSpoofing.from_pretrained(tmp_path / "model")(pictures)
    alone = map(predict.Model(tmp_path / "model"), pictures)
    for one, answer, other in zip(found, alone, model(pictures), strict=True):
        assert one.verdict == answer.verdict == other.verdict
        if other.score is not None:
            assert one.score == answer.score == pytest.approx(other.score, abs=near)


def test_openvino_that_is_not_installed_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(AgfasError, match=r"pip install \"agfas\[openvino\]\""):
        export_folder(model, tmp_path / "model", some_faces, form="openvino")
    with pytest.raises(AgfasError, match="int8 goes with --format onnx"):
        export_folder(model, tmp_path / "model", some_faces, "int8", "openvino")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_predict_runs_with_three_packages_alone(model, exported, pictures, tmp_path):
    venv.create(tmp_path / "fresh", with_pip=False, symlinks=True)
    python = tmp_path / "fresh" / "bin" / "python"
    site = Path(
        subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True).strip()
    )
    for package in (np, cv2, onnxruntime):
        place = Path(str(package.__file__)).parent
        beside = [place, *place.parent.glob(f"{place.name}.libs"), *place.parent.glob("opencv_python*.libs")]
        for folder in beside:
            if not (site / folder.name).exists():
                (site / folder.name).symlink_to(folder)
    lines = [python, "-I", exported / "predict.py", "--json", *pictures]
    ended = subprocess.run(lines, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    for line, other in zip(ended.stdout.splitlines(), model(pictures), strict=True):
        answer = json.loads(line)
        assert answer["verdict"] == other.verdict
        assert answer["score"] == (None if other.score is None else pytest.approx(other.score, abs=1e-6))
    for absent in ("torch", "PIL", "pydantic", "onnx"):
        assert (
            subprocess.run([python, "-I", "-c", f"import {absent}"], capture_output=True, check=False).returncode == 1
        )
