"""The job whole: what it writes, what it says, and what it refuses before any work."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from prepare_stubs import SMALL, SquareDetector, everything, people, refused

from pipelines.artefacts.faces import make_faces
from pipelines.data.faces import open_faces
from pipelines.data.intact import write_sums
from pipelines.data.leaks import dataset_leaks, leaks_from_json
from pipelines.data.prepare import sources as sources_module
from pipelines.data.prepare.dataset import prepared_features
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import find_sources
from pipelines.data.records import load_faces, read_card
from pipelines.errors import AgfasError
from pipelines.experiment.file import build_experiment
from pipelines.files import read_json, write_json
from pipelines.stages.prepare import run


def test_the_dataset_has_its_columns_and_opens_for_training(made):
    faces = load_faces(made)
    assert faces.features == prepared_features()
    assert len(faces) == 24 + 10
    assert faces["key"][:] == sorted(faces["key"][:])
    opened = open_faces(made, 32)
    assert opened.images.shape == (34, 32, 32, 3)
    assert np.array_equal(opened.images[3], np.asarray(faces[3]["image"]))
    assert {faces[0][name] for name in ("mask", "sex", "ethnicity")} == {None, ""}
    film = [row["frame"] for row in faces if row["source"].endswith("film.mp4")]
    assert film == list(range(10))
    (made / "pixels-32.npy").unlink()


def test_what_is_said_beside_it(made, crowd):
    card = read_card(made)
    assert (card["faces"], card["asked"], card["refused"], card["refused_faces"]) == (34, 37, 3, 3)
    assert card["passed_over"] == {".txt, ignored by the importer": 1, "link, not followed": 1}
    counts = json.loads((made / "counts.json").read_text())
    assert sum(row["faces"] for row in counts["counts"]) == 34
    assert sum(card["counts"].values()) == 34
    text = (made / "README.md").read_text()
    assert DatasetCard(text).data.pretty_name == card["title"]
    for wanted in (card["recipe_hash"], card["fingerprint"], card["licence"], "| size | `32` |", "squares"):
        assert wanted in text
    assert str(crowd.parent) not in text + (made / "refused.csv").read_text() + json.dumps(card)
    assert (made / "passed_over.csv").read_text().splitlines()[1:] == [
        'loop,"link, not followed"',
        'notes.txt,".txt, ignored by the importer"',
    ]


def test_every_refusal_has_its_line(made):
    lines = {line["path"]: line for line in refused(made)}
    assert set(lines) == {"attack/s1/faulty.png", "attack/s2/empty.png", "bonafide/s0/nobody.png"}
    assert "ValueError" in lines["attack/s1/faulty.png"]["reason"]
    assert "empty (0 bytes)" in lines["attack/s2/empty.png"]["reason"]
    assert lines["bonafide/s0/nobody.png"]["tried"] == "the picture"


def test_the_check_at_work_is_that_of_the_finished_dataset(made):
    written = json.loads((made / "leaks.json").read_text())
    assert leaks_from_json(written) == dataset_leaks(made)
    assert written["clean"] is True


def test_splits_that_leak_end_with_1_and_are_not_trained_on_unless_allowed(made, crowd, capsys, tmp_path):
    path = made / "leaks.json"
    before = path.read_text()
    recipe = {**SMALL, "max_refused": 0.2}
    settings = {"name": "x", "output": str(tmp_path), "data": {"name": "dataset", "path": str(made), "size": 32}}
    try:
        write_json(path, {**read_json(path), "clean": False, "near_duplicate_pairs": 2})
        write_sums(made)
        assert run(crowd, made, PrepareRecipe(**recipe), SquareDetector) == 1
        said = capsys.readouterr().out
        assert "SPLITS LEAK: 0 subjects, 0 videos and 2 pairs" in said
        assert "the exit code is 1" in said
        assert run(crowd, made, PrepareRecipe(**recipe, allow_leaks=True), SquareDetector) == 0
        with pytest.raises(AgfasError, match=r"SPLITS LEAK.*data\.allow_leaks=true"):
            make_faces(build_experiment(settings, "the test"))
        settings["data"]["allow_leaks"] = True
        assert len(make_faces(build_experiment(settings, "the test")).keys) == 34
    finally:
        path.write_text(before)
        write_sums(made)
        (made / "pixels-32.npy").unlink(missing_ok=True)


def test_the_exit_code_is_of_the_refused_share(made, crowd, capsys):
    """Run again with a wider limit: nothing is made anew."""
    before = everything(made)
    assert run(crowd, made, PrepareRecipe(**SMALL, max_refused=0.2), SquareDetector) == 0
    assert "3 of 37 faces were refused (8.1%)" in capsys.readouterr().out
    assert run(crowd, made, PrepareRecipe(**SMALL, max_refused=0.08), SquareDetector) == 1
    assert "more than --max-refused 0.08" in capsys.readouterr().out
    assert everything(made) == before


def test_an_output_that_holds_something_else_is_left_alone(made, crowd, tmp_path):
    with pytest.raises(AgfasError, match="of another recipe"):
        run(crowd, made, PrepareRecipe(size=48, workers=1), SquareDetector)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(AgfasError, match="holds something else"):
        run(crowd, tmp_path / "mine", PrepareRecipe(**SMALL), SquareDetector)
    with pytest.raises(AgfasError, match="is a file"):
        run(crowd, tmp_path / "mine" / "diary.txt", PrepareRecipe(**SMALL), SquareDetector)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(AgfasError, match="is a link"):
        run(crowd, tmp_path / "link", PrepareRecipe(**SMALL), SquareDetector)
    with pytest.raises(AgfasError, match="which is only read"):
        run(crowd, crowd / "faces", PrepareRecipe(**SMALL), SquareDetector)
    assert everything(tmp_path / "mine") == {"diary.txt": b"dear diary"}


def test_missing_videos_end_it_before_any_work(tmp_path, capsys, monkeypatch):
    from pipelines.data.importers import folder
    from pipelines.data.importers.layout import Expected

    source = people(tmp_path / "in", subjects=2, pictures=1)
    monkeypatch.setattr(folder, "EXPECTED", (Expected(1, 70), Expected(0, 2, what="all")), raising=False)
    assert run(source, tmp_path / "out", PrepareRecipe(**SMALL, aligned=True)) == 1
    printed = capsys.readouterr().out
    assert "bona fide: 2 of 70 videos, 68 MISSING" in printed
    assert "attack [all]: 2 of 2 videos, complete" in printed
    assert "--allow-missing" in printed
    assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out", PrepareRecipe(**SMALL, aligned=True, allow_missing=True)) == 0
    assert "68 MISSING" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_at_the_source(tmp_path):
    with pytest.raises(AgfasError, match="nothing at"):
        find_sources(tmp_path / "absent", PrepareRecipe())


def test_folders_that_cannot_be_read_and_pipes_are_refused(tmp_path, monkeypatch):
    source = people(tmp_path / "in", subjects=1, pictures=1)
    os.mkfifo(source / "bonafide" / "pipe.jpg")
    walk = os.walk

    def failing(folder, onerror):
        onerror(PermissionError(13, "Permission denied", str(source / "bonafide" / "locked")))
        return walk(folder)

    monkeypatch.setattr(sources_module.os, "walk", failing)
    found = find_sources(source, PrepareRecipe())
    assert [(line.path, line.reason) for line in found.unreadable] == [
        ("bonafide/locked", "The folder cannot be read (Permission denied); its content is unknown."),
        ("bonafide/pipe.jpg", "It is not a regular file (a pipe, a socket or a device)."),
    ]
