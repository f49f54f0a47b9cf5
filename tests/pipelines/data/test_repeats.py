"""Equal faces are counted and named; no source is lost without a word."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from prepare_stubs import SMALL, people, refused, save, scene

from pipelines.data.crop import CropRecipe
from pipelines.data.prepare.result import accounted
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import Refusal
from pipelines.data.records import read_card
from pipelines.data.repeats import find_repeats, repeat_sentences
from pipelines.errors import AgfasError
from pipelines.stages.prepare import run


def repeats(*rows):
    """Of (label, video, picture) rows whose signatures are all equal."""
    columns = {
        "key": [f"k{row}" for row in range(len(rows))],
        "domain": ["d"] * len(rows),
        "label": [label for label, _, _ in rows],
        "video": [video for _, video, _ in rows],
        "hash": [7] * len(rows),
        "thumbnail": [b""] * len(rows),
    }
    return find_repeats(columns, lambda chosen: [rows[row][2] for row in chosen])


def test_a_picture_of_both_classes_is_named():
    found = repeats((1, "a", b"x"), (0, "b", b"x"), (1, "c", b"y"))
    assert found.as_json() == {"both_classes": 1, "faces_in_both": 2, "repeated": 0}
    assert found.lines == [{"key": "k1", "same_as": "k0", "both_classes": "yes"}]
    assert "BOTH CLASSES: 1 pictures are both bona fide and attack" in repeat_sentences(found.as_json())[0]


def test_a_picture_under_two_names_is_counted_and_a_still_video_is_not():
    found = repeats((1, "a", b"x"), (1, "a", b"x"), (1, "b", b"x"), (0, "c", b"z"), (0, "c", b"z"))
    assert found.as_json() == {"both_classes": 0, "faces_in_both": 0, "repeated": 1}
    assert [line["key"] for line in found.lines] == ["k1", "k2"]
    assert repeat_sentences(found.as_json())[0].startswith("1 faces are a face of another file")
    assert repeats((1, "a", b"x"), (1, "a", b"x"), (0, "c", b"z")).lines == []


def test_pictures_of_both_classes_end_with_one(tmp_path, capsys):
    source = people(tmp_path / "in", subjects=3, pictures=1)
    save(source / "bonafide/s0/1.png", scene(seed=77))
    save(source / "attack/s1/1.bmp", scene(seed=77))  # equal pixels in another file
    assert run(source, tmp_path / "out", PrepareRecipe(**SMALL, aligned=True, allow_leaks=True)) == 1
    printed = capsys.readouterr().out
    assert "BOTH CLASSES: 1 pictures" in printed
    assert "Sources: 8 found: 8 read" in printed
    assert "1 pictures are both bona fide and attack (25.0% of the faces" in printed
    lines = (tmp_path / "out" / "repeated.csv").read_text().splitlines()
    assert lines[1].split(",")[2] == "yes"
    assert read_card(tmp_path / "out")["sources"]["found"] == 8


def test_crops_too_small_and_no_faces_at_all(tmp_path, capsys):
    source = tmp_path / "in"
    save(source / "one.png", np.zeros((1, 1, 3), np.uint8))
    save(source / "thin.png", np.zeros((3000, 1, 3), np.uint8))
    assert run(source, tmp_path / "out", PrepareRecipe(importer="live", **SMALL, aligned=True, max_refused=1)) == 1
    printed = capsys.readouterr().out
    assert "Sources: 2 found: 0 read, 2 refused" in printed
    assert "No face came through" in printed
    assert "can be used" not in printed
    assert ["too few to hold a face" in line["reason"] for line in refused(tmp_path / "out")] == [True, True]
    with pytest.raises(AgfasError, match="15 x 15 pixels, too few"):
        CropRecipe(32).take(np.zeros((15, 15, 3), np.uint8))
    assert CropRecipe(32).take(np.zeros((16, 16, 3), np.uint8))[0].shape == (32, 32, 3)


def test_one_class_alone_is_said(tmp_path, capsys):
    save(tmp_path / "in" / "a.png", scene(seed=1))
    assert run(tmp_path / "in", tmp_path / "out", PrepareRecipe(importer="live", **SMALL, aligned=True)) == 0
    assert "All faces are bona fide: enough to train a generator, not a detector." in capsys.readouterr().out


def test_every_source_has_gone_somewhere():
    sources = SimpleNamespace(names=["a", "b", "film"], unreadable=[], passed_over=[("notes.txt", "")], beyond_limit=2)
    lines = [Refusal("b", -1, "damaged", "reading"), Refusal("film", 3, "no face", "frames")]
    assert accounted(["a", "film"], lines, sources) == {
        **{"found": 6, "read": 2, "refused": 1, "passed_over": 1, "beyond_limit": 2}
    }
    with pytest.raises(AgfasError, match=r"1 of 3 sources gave neither .* the first is film"):
        accounted(["a"], lines[:1], sources)


def test_three_videos_of_two_classes_and_two_domains():
    columns = {
        "key": list("abcdefgh"),
        "domain": ["x", "x", "y", "x", "x", "x", "x", "y"],
        "label": [1, 1, 1, 0, 1, 1, 0, 0],
        "video": ["v", "w", "v", "v", "z", "t", "t", "t"],
        "hash": [1, 1, 1, 1, 1, 2, 3, 2],
        "thumbnail": [b"p"] * 6 + [b"p", b"q"],  # of the last three, none equals another in both
    }
    asked = []

    def pictures(rows):
        asked.append(list(rows))
        return [b"one" if row < 4 else b"other" for row in rows]

    found = find_repeats(columns, pictures)
    assert asked == [[0, 1, 2, 3, 4]]
    # v, w and v of another domain are three videos of one class: two repeat the first. The attack repeats none.
    assert found.as_json() == {"both_classes": 1, "faces_in_both": 4, "repeated": 2}
    assert found.lines == [{"key": key, "same_as": "a", "both_classes": "yes"} for key in "bcd"]
    assert len(repeat_sentences(found.as_json())) == 2
    assert repeat_sentences({}) == repeat_sentences({"both_classes": 0, "repeated": 0}) == []
    assert find_repeats({name: [] for name in columns}, pictures).as_json() == {
        "both_classes": 0, "faces_in_both": 0, "repeated": 0
    }  # fmt: skip
    same = repeats((1, "a", b"x"), (1, "b", b"x"))
    assert same.lines == [{"key": "k1", "same_as": "k0", "both_classes": "no"}]
