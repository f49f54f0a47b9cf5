"""`agfas show` and the command line of `agfas prepare`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare_stubs import people
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.data.intact import write_sums
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.stages.show import run
from pipelines.synthetic.benchmark import build
from pipelines.synthetic.settings import SyntheticSettings


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Made by the command, of pictures that are crops already."""
    folder = tmp_path_factory.mktemp("prepared")
    source, out, recipe = people(folder / "in"), folder / "out", folder / "recipe.yaml"
    (source / "bonafide" / "s0" / "broken.png").write_bytes(b"broken")
    recipe.write_text("aligned: true\nsize: 64\nworkers: 1\n")
    command = ["prepare", str(source), "--out", str(out), "--config", str(recipe), "--size", "32", "--domain", "mine"]
    assert CliRunner().invoke(app, command).exit_code == 1  # 1 of 25 is more than 1 %
    assert CliRunner().invoke(app, [*command, "--max-refused", "0.05"]).exit_code == 0
    return out


def test_what_there_is(prepared):
    lines = run(prepared)
    text = "\n".join(lines)
    assert "24 faces" in lines[0]
    assert "6 subjects, 12 videos" in lines[0]
    table = [line.split() for line in lines if line.startswith("mine")]
    assert [line[1] for line in table] == ["bonafide", "attack"]
    assert [int(line[6]) for line in table] == [12, 12]
    assert sum(int(number) for line in table for number in line[3:6]) == 24
    assert "Splits are clean" in text
    assert "1 of 25 faces were refused" in text


def test_the_contact_sheet(prepared):
    run(prepared)
    with Image.open(prepared / "contact_sheet.png") as sheet:
        assert sheet.height == 8 + 4 * 128 + 18
        assert np.asarray(sheet).std() > 20


def test_the_command_prints_it(prepared):
    result = CliRunner().invoke(app, ["show", str(prepared)])
    assert result.exit_code == 0
    assert "mine" in result.output
    assert "contact_sheet.png" in result.output


def test_a_check_of_another_content_is_not_trusted(prepared):
    path = prepared / "leaks.json"
    before = path.read_text()
    try:
        write_json(path, {**read_json(path), "clean": False, "near_duplicate_pairs": 7})
        write_sums(prepared)
        assert "SPLITS LEAK" in "\n".join(run(prepared))
        path.write_text(before)
        write_json(path, {**read_json(path), "near_duplicate_pairs": 7, "fingerprint": "other"})
        write_sums(prepared)
        assert "Splits are clean" in "\n".join(run(prepared))
    finally:
        path.write_text(before)
        write_sums(prepared)


def test_a_synthetic_dataset_is_shown_too(tmp_path):
    settings = SyntheticSettings(size=32, subjects=5, live_videos=1, attack_videos=1, frames=1, corpus_subjects=2)
    text = "\n".join(run(build(settings, tmp_path / "faces", workers=1)))
    assert "webcam" in text
    assert "pairs of near-duplicates" in text or "Splits are clean" in text


def test_no_dataset(tmp_path):
    with pytest.raises(AgfasError, match="is no face dataset"):
        run(tmp_path)


@pytest.mark.parametrize("arguments", ["--size 8", "--importer fodler", "--option x", "--option x=1", "--ratio 0"])
def test_wrong_arguments_are_mistakes(tmp_path, arguments):
    people(tmp_path / "in", subjects=1, pictures=1)
    command = ["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *arguments.split()]
    assert isinstance(CliRunner().invoke(app, command).exception, AgfasError)
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda place: None, "there is no such folder"),
        (lambda place: place.write_bytes(b""), "it is a file"),
        (lambda place: place.mkdir(), "is no face dataset: it has no face_dataset.json"),
        (lambda place: (place / ".work").mkdir(parents=True), "so it is unfinished"),
    ],
)
def test_what_is_no_face_dataset_is_called_what_it_is(tmp_path, make, words):
    make(tmp_path / "it")
    with pytest.raises(AgfasError, match=words):
        run(tmp_path / "it")
