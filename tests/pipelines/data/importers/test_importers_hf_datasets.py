"""Hugging Face datasets that the tests save: what their rows say."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_tree import said
from saved_datasets import dataset, png, saved

from pipelines.data.importers.hf import find, picture_bytes
from pipelines.errors import AgfasError


def test_a_dataset_with_class_names(tmp_path):
    faces = find(saved(tmp_path / "set", [0, 1, 0], ["spoof", "live"]), "mine")
    assert [face.label for face in faces] == [0, 1, 0]
    assert said(faces[1]) == (1, "none", "row-0000001", "row-0000001", 0, "")
    assert said(faces[2])[1] == "attack"
    assert [(face.row, face.column, face.is_video) for face in faces] == [(row, "image", False) for row in range(3)]
    assert not any(face.subject_known for face in faces)


@pytest.mark.parametrize("given", ["real,genuine", ["real", "genuine"], [1, 2], "1,2"])
def test_the_labels_of_bona_fide_are_an_option(tmp_path, given):
    source = saved(tmp_path / "set", [0, 1, 2, 3], ["photo", "real", "genuine", "video"])
    assert [face.label for face in find(source, "mine", bonafide=given)] == [0, 1, 1, 0]


def test_numbers_alone_are_asked_for(tmp_path):
    source = saved(tmp_path / "set", [0, 1])
    with pytest.raises(AgfasError, match=r"mean bona fide\? '0' \(row 0\).*column 'label' of .* there are: 0, 1"):
        find(source, "mine")
    assert [face.label for face in find(source, "mine", bonafide=0)] == [1, 0]
    with pytest.raises(AgfasError, match=r"No label in the column .* is '7'"):
        find(source, "mine", bonafide=7)


def test_names_that_are_no_words_for_it_are_asked_for(tmp_path):
    with pytest.raises(AgfasError, match=r"Which labels .*: me, you"):
        find(saved(tmp_path / "set", ["me", "you"]), "mine")


def test_columns(tmp_path):
    columns = {
        "who": ["ann", "ann", "bob"],
        "film": ["v", "v", "w"],
        "kind": ["", "print", "replay"],
        "part": ["train", "val", "test"],
    }
    source = saved(tmp_path / "set", ["live", "spoof", "spoof"], **columns)
    names = {"subject": "who", "video": "film", "attack_type": "kind", "split_column": "part"}
    assert [said(face) for face in find(source, "mine", **names)] == [
        (1, "none", "ann", "v", 0, "train"),
        (0, "print", "ann", "v", 1, "dev"),
        (0, "replay", "bob", "w", 0, "test"),
    ]


def test_rows_without_subject_or_attack_type(tmp_path):
    columns = {"who": ["ann", None, ""], "kind": [None, None, "print"]}
    source = saved(tmp_path / "set", ["live", "spoof", "spoof"], **columns)
    faces = find(source, "mine", subject="who", attack_type="kind")
    assert [(face.subject, face.subject_known) for face in faces] == [
        *(("ann", True), ("row-0000001", False), ("row-0000002", False))
    ]
    assert [face.attack_type for face in faces] == ["none", "attack", "print"]


def test_the_splits_of_a_dataset(tmp_path):
    from datasets import DatasetDict

    part = dataset([0, 1], ["spoof", "live"])
    DatasetDict({"train": part, "validation": part, "test": part}).save_to_disk(str(tmp_path / "set"))
    faces = find(tmp_path / "set", "mine")
    assert sorted({(face.split, face.path.name) for face in faces}) == [
        *(("dev", "validation"), ("test", "test"), ("train", "train"))
    ]
    assert [face.video for face in faces[:3]] == ["row-test-0000000", "row-test-0000001", "row-train-0000000"]
    assert len({face.video for face in faces}) == 6
    assert [picture_bytes(face) for face in faces] == [png(0), png(1)] * 3


def test_a_single_split_is_none(tmp_path):
    from datasets import DatasetDict

    part = dataset([0, 1], ["spoof", "live"])
    DatasetDict({"train": part}).save_to_disk(str(tmp_path / "set"))
    assert {face.split for face in find(tmp_path / "set", "mine")} == {""}
    for name in ("dataset_info.json", "state.json"):
        content = (tmp_path / "set" / "train" / name).read_bytes()
        (tmp_path / "set" / "train" / name).unlink()
        with pytest.raises(AgfasError, match=r"train cannot be read as a Hugging Face dataset \(.*\)\. Save it again"):
            find(tmp_path / "set", "mine")
        (tmp_path / "set" / "train" / name).write_bytes(content)


def test_a_dataset_of_the_hub(monkeypatch):
    from datasets import DatasetDict

    part = dataset([0, 1], ["spoof", "live"])
    asked = []

    def load(name, split=None):
        asked.append((name, split))
        parts = {"train": part, "test": part, "empty": part.select([])}
        return parts[split] if split else DatasetDict(parts)

    monkeypatch.setattr("datasets.load_dataset", load)
    faces = find(Path("someone/faces"), "mine")
    assert [(face.path.as_posix(), face.split) for face in faces[1:3]] == [
        *(("someone/faces@train", "train"), ("someone/faces@test", "test"))
    ]
    assert picture_bytes(faces[1]) == png(1)
    assert {face.split for face in find(Path("someone/faces@test"), "mine")} == {""}
    assert len(faces) == 4
    with pytest.raises(AgfasError, match=r"someone/faces holds no rows\. Expected: a dataset saved with"):
        find(Path("someone/faces@empty"), "mine")
    asked.pop()
    assert asked == [("someone/faces", None), ("someone/faces", "train"), ("someone/faces", "test")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "imgae"}, "no column 'imgae'; did you mean 'image'"),
        ({"image": "label"}, "holds no pictures; columns of pictures: image"),
        ({"label": "labels"}, "no column 'labels'; did you mean 'label'"),
        ({"subject": "person"}, "no column 'person'"),
        ({"split_column": "part"}, "'elsewhere' is no split.* leave split_column=part out"),
        ({"split_column": "kind"}, "1 rows have no 'kind', the first is row 1"),
    ],
)
def test_mistakes_in_the_options(tmp_path, options, message):
    columns = {"part": ["elsewhere", "train"], "kind": ["test", None]}
    source = saved(tmp_path / "set", ["live", "spoof"], **columns)
    with pytest.raises(AgfasError, match=message):
        find(source, "mine", **options)


def test_a_row_without_a_label(tmp_path):
    with pytest.raises(AgfasError, match="1 rows have no 'label', the first is row 0"):
        find(saved(tmp_path / "set", [-1, 1], ["spoof", "live"]), "mine")
    with pytest.raises(AgfasError, match="2 rows have no 'label', the first is row 1"):
        find(saved(tmp_path / "other", [1, None, None], ["spoof", "live"]), "mine")


def test_what_is_no_dataset(tmp_path):
    with pytest.raises(AgfasError, match="hub id"):
        find(tmp_path / "absent", "mine")
    for name in ("a/b/c", "a b/c", "/a/b"):
        with pytest.raises(AgfasError, match=f"No folder at {name}"):
            find(Path(name), "mine")
    damaged = saved(tmp_path / "set", ["live", "spoof"])
    with pytest.raises(AgfasError, match=r"set has no splits\. Give it without @train\."):
        find(tmp_path / "set@train", "mine")
    (damaged / "state.json").write_text("{")
    with pytest.raises(AgfasError, match=r"set cannot be read as a Hugging Face dataset \(.*\)\. Save it again"):
        find(damaged, "mine")


def test_an_attack_of_type_none_contradicts_itself(tmp_path):
    source = saved(tmp_path / "set", ["live", "spoof"], kind=["none", "none"])
    with pytest.raises(AgfasError, match="row 1: attack_type 'none' does not go with the label 'spoof'"):
        find(source, "mine", attack_type="kind")


@pytest.mark.parametrize(
    ("values", "given"), [([0.0, 1.0], 1), ([0.0, 1.0], "1.0"), ([False, True], True), ([False, True], 1)]
)
def test_numbers_of_every_type_are_named(tmp_path, values, given):
    from datasets import Dataset, Features, Image, Value

    kind = Value("bool" if isinstance(values[0], bool) else "float64")
    rows = {"image": [{"bytes": png(), "path": None}] * 2, "label": values}
    Dataset.from_dict(rows, features=Features({"image": Image(), "label": kind})).save_to_disk(str(tmp_path / "set"))
    assert [face.label for face in find(tmp_path / "set", "mine", live=given)] == [0, 1]


def test_one_split_alone_is_dealt_out(tmp_path):
    from datasets import DatasetDict

    part = dataset([0, 1], ["spoof", "live"])
    DatasetDict({"train": part, "extra": part}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(AgfasError, match=r"'extra' is no split; .* import it alone: (.*)@extra"):
        find(tmp_path / "set", "mine")
    faces = find(tmp_path / "set@extra", "mine")
    assert [(face.split, face.path.name, picture_bytes(face)) for face in faces] == [
        *(("", "extra", png(0)), ("", "extra", png(1)))
    ]
    with pytest.raises(AgfasError, match="no split 'other'; Allowed: extra, train"):
        find(tmp_path / "set@other", "mine")
