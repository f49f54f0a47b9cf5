"""What a user can do wrong at the command line: one clear sentence, a non-zero exit code, nothing lost."""

from __future__ import annotations

import errno
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipelines import cli
from pipelines.data.faces import open_faces
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.stages import prepare as prepare_stage

TINY = {
    "data": {
        "name": "synthetic", "size": 32, "domains": ["webcam", "phone"], "subjects": 5, "live_videos": 1,
        "attack_videos": 1, "frames": 1, "corpus_subjects": 5, "corpus_images": 2,
    },
    "detector": {
        "name": "image_only", "preset": "tiny", "image_size": 32,
        "backbone_options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
    },
    "train": {"steps": 2, "warmup": 1, "per_cell": 2, "evaluations": 1},
    "evaluate": {"replicates": 100},
}  # fmt: skip


@pytest.fixture
def agfas(monkeypatch, capsys):
    """Run a command in this process: its exit code and the last line that it printed to stderr."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["agfas", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        else:
            code = 0
        printed = capsys.readouterr().err.strip()
        assert "Traceback" not in printed
        return code, printed.splitlines()[-1] if printed else ""

    return run


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump({**TINY, "output": str(tmp_path / "out")}))
    return path


def make_pictures(folder: Path, count: int = 12) -> None:
    rng = np.random.default_rng(0)
    for label in ("bonafide", "attack"):
        for number in range(count):
            place = folder / label / f"person{number % 4}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(place)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "absent.yaml"], 1, "configs/"),
        (["trane", "x"], 2, "trane"),
        (["report", "nowhere"], 1, "plan.json"),
        (["detect", "nothing.png", "--model", "nowhere"], 1, "nothing.png"),
        (["detect", __file__, "--run", "nowhere"], 1, "plan.json"),
        (["detect", __file__, "--model", "nowhere"], 1, "save-model"),
        (["detect", __file__], 1, "--run"),
        (["save-model", "nowhere", "--out", "saved"], 1, "plan.json"),
        (["export", "nowhere", "--out", "saved"], 1, "save-model"),
        (["synth", "out", "--domains", "moon"], 1, "moon"),
        (["synth", "out", "--subjects", "1"], 1, "subjects"),
        (["train"], 2, "config"),
    ],
)
def test_wrong_arguments(agfas, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    given, message = agfas(*arguments)
    assert given == code
    assert words in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cue.timestepp=1", "timestep"),
        ("detector.name=oanett", "oanet"),
        ("cue.timestep=800", "801"),
        ("objective.margim=1", "margin"),
        ("detector.image_size=big", "detector"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_is_made(agfas, config, tmp_path, override, words):
    code, message = agfas("train", config, override)
    assert code == 1
    assert words in message
    assert not (tmp_path / "out").exists()


def test_a_run_folder_of_another_configuration(agfas, config, tmp_path):
    assert agfas("train", config)[0] == 0
    run = next((tmp_path / "out" / "detectors").iterdir()) / "to_phone"
    (run / "done.json").unlink()
    (run / "identity.json").write_text('{"seed": 99}')
    before = sorted(path.name for path in run.rglob("*"))
    code, message = agfas("train", config)
    assert code == 1
    assert "another configuration" in message
    assert sorted(path.name for path in run.rglob("*")) == before


def prepare(tmp_path: Path) -> tuple[str | Path, ...]:
    return "prepare", tmp_path / "pictures", "--out", tmp_path / "faces", "--aligned", "--workers", "1"


def test_a_folder_without_pictures(agfas, tmp_path):
    for label in ("bonafide", "attack"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
    code, message = agfas(*prepare(tmp_path))
    assert code == 1
    assert "No pictures" in message


def test_a_folder_that_is_not_there(agfas, tmp_path):
    (tmp_path / "pictures").mkdir()
    code, message = agfas(*prepare(tmp_path))
    assert code == 1
    assert "bonafide/" in message


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data))


def bad_pictures(folder: Path) -> list[Path]:
    good = (folder / "bonafide" / "person0" / "0.png").read_bytes()
    contents = {
        "truncated.png": good[: len(good) // 2],
        "bomb.png": png_header(60_000, 60_000),
        "words.jpg": b"this is not a picture\n" * 20,
        "empty.png": b"",
    }
    paths = []
    for name, content in contents.items():
        paths.append(folder / "attack" / "person1" / name)
        paths[-1].write_bytes(content)
    return paths


def test_too_many_bad_pictures_end_with_code_one(tmp_path, capsys):
    make_pictures(tmp_path / "pictures")
    bad_pictures(tmp_path / "pictures")
    assert (
        prepare_stage.run(tmp_path / "pictures", tmp_path / "faces", PrepareRecipe(aligned=True, size=32, workers=1))
        == 1
    )
    assert "4 of 28 faces were refused" in capsys.readouterr().out


def test_few_bad_pictures_are_listed_with_their_reasons(tmp_path):
    make_pictures(tmp_path / "pictures")
    bad = bad_pictures(tmp_path / "pictures")
    recipe = PrepareRecipe(aligned=True, size=32, workers=1, max_refused=0.5)
    assert prepare_stage.run(tmp_path / "pictures", tmp_path / "faces", recipe) == 0
    faces = open_faces(tmp_path / "faces", 32)
    assert len(faces) == 24
    refused = (tmp_path / "faces" / "refused.csv").read_text().splitlines()[1:]
    assert len(refused) == 4
    for path in bad:
        assert sum(path.name in line for line in refused) >= 1
    subjects: dict[str, set] = {}
    for subject, split in zip(faces.subjects, faces.splits, strict=True):
        subjects.setdefault(subject, set()).add(split)
    assert all(len(splits) == 1 for splits in subjects.values())


def test_a_full_disk_is_one_sentence_and_loses_nothing(agfas, config, tmp_path, monkeypatch):
    assert agfas("train", config)[0] == 0
    finished = {path: path.read_bytes() for path in (tmp_path / "out" / "detectors").rglob("*") if path.is_file()}
    replace = os.replace

    def full(source, target, **options):
        if "detectors" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return replace(source, target, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        code, message = agfas("train", config, "seed=1")
    assert code == 1
    assert "disk is full" in message
    assert {path: path.read_bytes() for path in finished} == finished
    assert agfas("evaluate", config, "seed=1")[0] == 0


def test_a_key_pressed_is_answered_with_how_to_go_on(agfas, config, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.stages.train_detector.fit", interrupted)
    code, message = agfas("train", config)
    assert code == 130
    assert "same command again" in message
