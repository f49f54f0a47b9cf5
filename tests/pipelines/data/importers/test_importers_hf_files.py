"""Pictures, archives and tables of Hugging Face datasets: which files are read, and what they hold."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest
from dataset_tree import said, touch
from saved_datasets import dataset, png, saved

from pipelines.data.contents import content_hashes
from pipelines.data.importers import class_folders, hf
from pipelines.data.importers.hf import find, picture_bytes
from pipelines.data.importers.source import SourceFace
from pipelines.errors import AgfasError
from pipelines.fingerprint import fingerprint


def test_the_bytes_of_a_picture_are_those_of_the_dataset(tmp_path):
    faces = find(saved(tmp_path / "set", [0, 1], ["spoof", "live"]), "mine")
    assert [picture_bytes(face) for face in faces] == [png(0), png(1)]


def cell(monkeypatch, content):
    """The only row of a dataset, whose cell holds this."""
    monkeypatch.setattr(hf, "_rows", lambda *_: [{"photo": content}])
    return SourceFace(Path("SET"), "d", "none", "s", "v", row=0, column="photo")


def test_a_picture_that_a_row_only_names(tmp_path, monkeypatch):
    (tmp_path / "zip:").mkdir()
    for place in ("a::b.png", "zip:/c.png"):
        (tmp_path / place).write_bytes(place.encode())
        assert picture_bytes(cell(monkeypatch, {"bytes": None, "path": f"{tmp_path}/{place}"})) == place.encode()
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/1.png", b"zipped")
    inside = {"bytes": None, "path": f"zip://in/1.png::{tmp_path}/a.zip"}
    assert picture_bytes(cell(monkeypatch, inside)) == b"zipped"
    assert picture_bytes(cell(monkeypatch, {"bytes": b"held", "path": "nowhere.png"})) == b"held"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Row 0 of SET has no picture in 'photo'."),
        ({"bytes": None, "path": None}, "Row 0 of SET has no picture in 'photo'."),
        ({"bytes": None, "path": "absent.png"}, "names absent.png, which cannot be read (No such file or directory)."),
        ({"bytes": None, "path": "zip://b.png::a.zip"}, "There is no item named 'b.png' in the archive"),
        ({"bytes": None, "path": "zip://b.png::b.zip"}, "which cannot be read (File is not a zip file)."),
    ],
)
def test_a_picture_that_is_not_there(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    ZipFile("a.zip", "w").close()
    Path("b.zip").write_text("text")
    with pytest.raises(AgfasError) as caught:
        picture_bytes(cell(monkeypatch, content))
    assert message in str(caught.value)


def test_what_a_dataset_holds_is_its_files_and_those_that_it_names_elsewhere(tmp_path):
    from datasets import Dataset, Features, Image, Value

    touch(tmp_path, "set/1.png", "elsewhere/2.png")
    features = Features({"image": Image(decode=False), "label": Value("string")})
    names = (tmp_path / "set" / "1.png", tmp_path / "elsewhere" / "2.png", None)
    cells = [name and {"bytes": None, "path": str(name)} for name in names] + [{"bytes": b"x", "path": "nowhere"}]
    data = Dataset.from_dict({"image": cells, "label": ["live"] * 4}, features=features).cast_column("image", Image())
    held = {
        (folder, held): hf._content(tmp_path / folder, data, "image", held)
        for folder, held in (("set", "abc"), ("set", ""), ("elsewhere", "abc"), (".", "abc"))
    }
    one, two = (fingerprint(content_hashes([names[n]])) for n in (0, 1))
    assert held == {
        ("set", "abc"): f"abc-{two}",
        ("set", ""): f"{data._fingerprint}-{fingerprint(content_hashes(list(names[:2])))}",
        ("elsewhere", "abc"): f"abc-{one}",
        (".", "abc"): "abc-",
    }


def test_a_row_without_a_picture(tmp_path):
    from datasets import Dataset, Features, Image, Value

    features = Features({"image": Image(), "label": Value("string")})
    Dataset.from_dict({"image": [None], "label": ["live"]}, features=features).save_to_disk(str(tmp_path / "set"))
    (empty,) = find(tmp_path / "set", "mine")
    with pytest.raises(AgfasError, match=r"Row 0 of .* has no picture in 'image'"):
        picture_bytes(empty)


def test_a_folder_of_class_folders(tmp_path):
    # An @ in a folder's name is no split.
    for place, name in enumerate(("live", "spoof")):
        (tmp_path / "me@home" / name).mkdir(parents=True)
        (tmp_path / "me@home" / name / "1.png").write_bytes(png(place))
    live, spoof = find(tmp_path / "me@home", "mine")
    assert (live.label, spoof.label) == (1, 0)
    assert (spoof.path, spoof.row) == (tmp_path / "me@home" / "spoof" / "1.png", -1)


def test_a_folder_that_load_dataset_reads(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for part in ("train", "test"):
        (tmp_path / "set").mkdir(exist_ok=True)
        dataset(["live", "spoof"]).to_parquet(str(tmp_path / "set" / f"{part}-00000.parquet"))
    faces = find(tmp_path / "set", "mine")
    assert [(face.split, face.label, face.path.name) for face in faces] == [
        *(("train", 1, "set@train"), ("train", 0, "set@train"), ("test", 1, "set@test"), ("test", 0, "set@test"))
    ]
    assert picture_bytes(faces[3]) == png(1)


def test_words_in_file_names_are_no_splits(tmp_path):
    """`load_dataset` reads two of these six files."""
    names = ("live/1.png", "live/test-1.png", "live/val_2.png", "Spoof /1.png", "Spoof /2.png", "Spoof /test.png")
    faces = find(touch(tmp_path, *names, "__MACOSX/live/._1.png", "live/Thumbs.db"), "mine")
    assert sorted((face.path.relative_to(tmp_path).as_posix(), face.label, face.split) for face in faces) == sorted(
        (name, int(name.startswith("live")), "") for name in names
    )


@pytest.mark.parametrize(
    ("names", "one"),
    [
        *(
            ((f"x.{table}",), False)
            for table in ("parquet", "arrow", "json", "jsonl", "csv", "tsv", "tar", "zip", "lance")
        ),
        *(((name, "live/1.png"), False) for name in ("state.json", "dataset_dict.json", "dataset_info.json")),
        *(((name, "live/1.png"), False) for name in ("train/metadata.csv", "METADATA.jsonl", "metadata.parquet")),
        (("notes.csv", "live/1.png"), True),
        (("notes.csv", "live/1.mp4"), False),
        (("live/1.mp4",), True),
    ],
)
def test_which_folders_are_read_by_their_names(tmp_path, names, one):
    assert class_folders.is_one(touch(tmp_path, *names)) == one
    assert not class_folders.is_one(tmp_path / "absent")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.txt",), "HERE holds no picture."),
        (("1.png", "2.png", "live/1.png"), "HERE holds 2 of 3 files, the first is HERE/1.png, are in no folder."),
    ],
)
def test_pictures_without_a_class(tmp_path, names, message):
    with pytest.raises(AgfasError) as caught:
        find(touch(tmp_path, *names), "mine")
    wanted = f"{message} Expected: [SPLIT/]CLASS/FILE, for example train/live/1.png."
    assert str(caught.value).replace(str(tmp_path), "HERE") == wanted


def test_one_split_of_class_folders_is_none_and_a_class_may_be_called_as_one(tmp_path):
    touch(tmp_path / "a", "train/live/1.png", "train/spoof/1.png")
    touch(tmp_path / "b", "live/1.png", "test/1.png")
    assert {face.split for face in find(tmp_path / "a", "mine")} == {""}
    faces = find(tmp_path / "b", "mine", bonafide="live")
    assert [said(face) for face in faces] == [
        (1, "none", "live-1", "live-1", 0, ""),
        (0, "attack", "test-1", "test-1", 0, ""),
    ]
    assert not any(face.subject_known for face in faces)
    with pytest.raises(AgfasError, match=r"mean bona fide\? 'test' \(.*/b/test\).* In the folders of .*/b there are"):
        find(tmp_path / "b", "mine")


def test_class_folders_in_folders_of_splits(tmp_path):
    touch(tmp_path, "Train/real/1.png", "Train/fake/1.png", "val/real/2.png", "val/fake/2.png")
    faces = find(tmp_path, "mine")
    assert {(face.path.parts[-3], face.label, face.split) for face in faces} == {
        *(("Train", 1, "train"), ("Train", 0, "train"), ("val", 1, "dev"), ("val", 0, "dev"))
    }
    assert {face.split for face in find(tmp_path.with_name(f"{tmp_path.name}@val"), "mine")} == {""}
    touch(tmp_path, "more/real/3.png")
    with pytest.raises(AgfasError, match=r"1 of 5 files are in no folder of a split.* alone: .*@more\."):
        find(tmp_path, "mine")
    (tmp_path / "more" / "real").rename(tmp_path / "real")
    with pytest.raises(AgfasError, match=r"first is .*/real/3\.png\. Move them into the folder of a split\."):
        find(tmp_path, "mine")


def test_a_folder_of_tables_of_which_a_part_would_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    for name in ("one", "two", "test-3"):
        dataset(["live", "spoof"]).to_parquet(str(tmp_path / "set" / f"{name}.parquet"))
    with pytest.raises(AgfasError, match=r"2 of 3 files of .* would be left out, the first is .*one\.parquet"):
        find(tmp_path / "set", "mine")
    assert len(find(tmp_path / "set@test", "mine")) == 2
    place = tmp_path / "set"
    for name in ("set[1]", "a*", "a?", "a::b", "l\nf", "c\rr"):
        place = place.rename(tmp_path / name)
        with pytest.raises(AgfasError, match=r"for a pattern\. Rename"):
            find(place, "mine")


def test_notes_and_other_files_beside_tables_are_not_left_out(tmp_path):
    touch(tmp_path, "a.json", "b.JSON", "config.json", "sub/dataset_infos.json", "notes.txt")
    hf._check_whole(tmp_path, {tmp_path / "a.json", tmp_path / "b.JSON"})
    touch(tmp_path, "c.png")
    with pytest.raises(AgfasError, match=r"2 of 3 files of .* left out, the first is .*/b\.JSON: `datasets` takes"):
        hf._check_whole(tmp_path, {tmp_path / "a.json"})


@pytest.mark.parametrize("name", ["a::b", "a[b]*?", "100 %", "l\nf", "\\'\""])
def test_saved_datasets_at_odd_places(tmp_path, name):
    saved(tmp_path / "set", ["live", "spoof"]).rename(tmp_path / name)
    faces = find(tmp_path / name, "mine")
    assert [picture_bytes(face) for face in faces] == [png(0), png(1)]
