"""Lists, Hugging Face datasets, names that climb, ratios and limits."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from prepare_stubs import (
    SMALL,
    SquareDetector,
    people,
    png,
    refused,
    save,
    scene,
)

from pipelines.data.contents import content_hashes
from pipelines.data.faces import open_faces
from pipelines.data.importers.source import LeftOut, SourceFace
from pipelines.data.prepare import sources as sources_module
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import (
    Refusal,
    base_of,
    check_source,
    contents,
    find_sources,
    listing,
    read_still,
    title_of,
)
from pipelines.data.records import load_faces, read_card
from pipelines.errors import AgfasError
from pipelines.stages.prepare import run


def test_names_that_climb_stay_in_the_dataset(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    save(source / "a.png", scene((40, 20, 70)))
    lines = ["path,label,subject,video,domain", "a.png,bonafide,../../s,../v,../../../d"]
    (source / "list.csv").write_text("\n".join(lines))
    run(source / "list.csv", tmp_path / "out", PrepareRecipe(importer="csv", **SMALL), SquareDetector)
    (row,) = load_faces(tmp_path / "out")
    assert row["key"] == "%2E.%2F..%2F..%2Fd/%2E.%2F..%2Fs/%2E.%2Fv/000"
    assert row["source"] == "a.png"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert {path.name for path in source.iterdir()} == {"a.png", "list.csv"}


def test_a_list_gives_splits_and_persons(tmp_path):
    source = people(tmp_path / "in", subjects=3, pictures=1)
    rows = ["path,label,subject,attack_type,split,age,sex"]
    for subject, split in enumerate(("train", "dev", "test")):
        rows.append(f"bonafide/s{subject}/0.png,bonafide,p{subject},,{split},{30 + subject},female")
        rows.append(f"attack/s{subject}/0.png,attack,p{subject},print,{split},,")
    (source / "list.csv").write_text("\n".join(rows))
    assert run(source / "list.csv", tmp_path / "out", PrepareRecipe(importer="csv", **SMALL), SquareDetector) == 0
    faces = load_faces(tmp_path / "out").to_pandas().drop(columns=["image"])
    assert dict(zip(faces["subject"], faces["split"], strict=True)) == {"p0": "train", "p1": "dev", "p2": "test"}
    assert sorted(faces["age"]) == [-1, -1, -1, 30, 31, 32]
    assert set(faces["attack_type"]) == {"none", "print"}


def test_rows_of_a_hugging_face_dataset(tmp_path):
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    pictures = [{"bytes": png(scene((40, 20, 70), seed=number)), "path": None} for number in range(6)]
    pictures[2] = {"bytes": pictures[2]["bytes"][:900], "path": None}
    pictures[3] = None
    rows = {"photo": pictures, "what": ["live", "spoof"] * 3, "who": ["a", "a", "b", "b", "c", "c"]}
    features = Features({"photo": ImageFeature(), "what": Value("string"), "who": Value("string")})
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "rows"))
    options = {"image": "photo", "label": "what", "bonafide": "live", "subject": "who"}
    out = tmp_path / "out"
    assert run(tmp_path / "rows", out, PrepareRecipe(importer="hf", options=options, **SMALL), SquareDetector) == 1
    faces = load_faces(out)
    assert sorted(faces["source"][:]) == ["photo[0]", "photo[1]", "photo[4]", "photo[5]"]
    assert {(row["source"], row["label"], row["subject"]) for row in faces} >= {
        ("photo[0]", 1, "a"),
        ("photo[5]", 0, "c"),
    }
    reasons = {line["path"]: line["reason"] for line in refused(out)}
    assert "a damaged " in reasons["photo[2]"]
    assert "row-" not in reasons["photo[2]"]
    assert "no picture" in reasons["photo[3]"]


def test_the_ratio_leaves_the_worst_of_the_larger_class_out(tmp_path):
    source = people(tmp_path / "in", subjects=1, pictures=5)
    for number in (1, 2, 3, 4):
        (source / "attack" / "s0" / f"{number}.png").unlink()
    for number in (0, 3):  # flat and dark: of low quality
        save(source / "bonafide" / "s0" / f"{number}.png", np.full((60, 60, 3), 20 + number, np.uint8))
    recipe = PrepareRecipe(**SMALL, aligned=True, ratio=3)
    assert run(source, tmp_path / "out", recipe) == 0
    live = [row["source"] for row in load_faces(tmp_path / "out") if row["label"] == 1]
    assert live == [f"bonafide/s0/{number}.png" for number in (1, 2, 4)]
    assert len((tmp_path / "out" / "left_out.csv").read_text().split()) == 3
    card = read_card(tmp_path / "out")
    assert (card["faces"], card["left_out"], card["asked"], card["refused"]) == (4, 2, 6, 0)


def test_what_a_limit_keeps_out_is_listed_and_no_fault(tmp_path, capsys):
    source = people(tmp_path / "in", subjects=1, pictures=2)
    save(source / "bonafide" / "s0" / "0.png", np.full((60, 60, 3), 20, np.uint8))  # flat and dark
    assert run(source, tmp_path / "out", PrepareRecipe(**SMALL, aligned=True, min_quality=0.3)) == 0
    (line,) = refused(tmp_path / "out")
    assert "below the limit of 0.3" in line["reason"]
    card = read_card(tmp_path / "out")
    assert (card["faces"], card["asked"], card["refused_faces"], card["filtered_faces"]) == (3, 4, 0, 1)
    assert "1 sound faces are beyond" in capsys.readouterr().out


def test_where_no_face_comes_through_it_says_so(tmp_path):
    source = people(tmp_path / "in", subjects=1, pictures=1)
    for path in source.rglob("*.png"):
        Image.new("RGB", (50, 50)).save(path)
    assert run(source, tmp_path / "out", PrepareRecipe(**SMALL, max_refused=0.99), SquareDetector) == 1
    assert len(refused(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    "name", ["a::b [c]*?", *(pytest.param(name, marks=pytest.mark.slow) for name in ("50 %#'\"\\", "l\nf"))]
)
def test_sources_and_outputs_at_odd_places(tmp_path, name):
    source, out = tmp_path / f"in {name}", tmp_path / f"out {name}"
    save(source / "live" / name / f"{name}.png", scene(seed=1))
    save(source / "spoof" / name / f"{name}.png", scene(seed=2))
    assert run(source, out, PrepareRecipe(**SMALL, aligned=True, domain="d")) == 0
    assert set(load_faces(out)["label"][:]) == {0, 1}
    assert open_faces(out, 16).images.shape == (2, 16, 16, 3)
    assert {path.name for path in tmp_path.iterdir()} == {source.name, out.name}
    with pytest.raises(AgfasError, match="holds bytes that are no text"):
        run(source, tmp_path / "latin-\udce9", PrepareRecipe(**SMALL, aligned=True, domain="d"))


# Without a job: what is found, and where it lies.


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_the_place_and_the_name_of_a_source(tmp_path):
    touch(tmp_path, "faces/list.one.csv", "faces/live/1.png")
    places = {"faces": "faces", "faces/list.one.csv": "faces", "faces@train": "faces", "absent": "absent"}
    assert {name: base_of(tmp_path / name).name for name in places} == places
    names = {
        "faces": "faces",
        "faces/list.one.csv": "list.one",
        "x/hub": "hub",
        "x/hub@train": "hub",
        "faces/.": "faces",
    }
    assert {name: sources_module._domain_of(tmp_path / name) for name in names} == names
    assert title_of(SimpleNamespace(TITLE="A title", __name__="a.module")) == "A title"
    assert title_of(SimpleNamespace(__name__="a.module")) == "a.module"
    assert Refusal("a", 1, "b", "c") == Refusal("a", 1, "b", "c", 1, False)


def test_sources_are_sorted_limited_and_counted(tmp_path):
    touch(tmp_path, *(f"{label}/{who}/{n}.png" for label in ("live", "spoof") for who in "ab" for n in range(3)))
    whole = find_sources(tmp_path, PrepareRecipe(domain="x y"))
    assert whole.names == [f"{label}/{who}/{n}.png" for who in "ab" for label in ("live", "spoof") for n in range(3)]
    assert {face.domain for face in whole.faces} == {"x%20y"}
    assert (whole.beyond_limit, whole.official, whole.missing) == (0, [""] * 12, [])
    few = find_sources(tmp_path, PrepareRecipe(limit=5, options={"live": "live"}))
    assert (len(few.faces), few.beyond_limit) == (5, 7)
    again = sources_module.assign_again(whole, PrepareRecipe(), {("x%20y", "b"): ("x%20y", "a")})
    assert set(again) == {("x%20y", face.subject, name) for face, name in zip(whole.faces, whole.names, strict=True)}
    assert len(set(again.values())) == 1


def test_an_importer_that_finds_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sources_module, "load_importer", lambda name: lambda source, domain: [])
    with pytest.raises(AgfasError, match=rf"^The importer 'live' found no picture and no video in {tmp_path}\.$"):
        find_sources(tmp_path, PrepareRecipe(importer="live"))


def test_a_dataset_of_the_hub_lies_nowhere(monkeypatch):
    face = SourceFace(Path("user/name"), "", "none", "s", "v", row=0, column="x")
    found = [replace(face, domain="name"), replace(face, domain="name", row=1, frame=1)]
    asked = []
    monkeypatch.setattr(
        sources_module, "load_importer", lambda name: lambda source, domain: asked.append((source, domain)) or found
    )
    sources = find_sources(Path("user/name@test"), PrepareRecipe(importer="hf"))
    assert asked == [(Path("user/name@test"), "name")]
    assert (sources.names, sources.passed_over, sources.unreadable) == (["x[0]", "x[1]"], [], [])


def test_what_the_result_depends_on_of_each_source(tmp_path):
    touch(tmp_path, "live/a.png", "spoof/b.png")
    faces = find_sources(tmp_path, PrepareRecipe(domain="d", splits={"train": 1.0, "dev": 0.0})).faces
    row = SourceFace(tmp_path, "d", "print", "s", "v", 4, "dev", True, 30, "f", "e", row=0, column="x", content="held")
    hashes = content_hashes([tmp_path / "live" / "a.png", tmp_path / "spoof" / "b.png"])
    run_of = {"live": "live-run-0000", "spoof": "spoof-run-0000"}
    splits = [face.split for face in sorted(faces, key=lambda face: -face.label)]
    given = [*sorted(faces, key=lambda face: -face.label), row]
    assert listing(given, contents(given), tmp_path) == [
        ["live/a.png", hashes[0], [1, "none", "d", run_of["live"], run_of["live"], 0, splits[0]], [False, -1, "", ""]],
        [
            "spoof/b.png",
            hashes[1],
            [0, "attack", "d", run_of["spoof"], run_of["spoof"], 0, splits[1]],
            [False, -1, "", ""],
        ],
        ["x[0]", "held", [0, "print", "d", "s", "v", 4, "dev"], [True, 30, "f", "e"]],
    ]


def test_only_folders_are_looked_around(tmp_path):
    touch(tmp_path, "live/1.png", "spoof/1.png", "extra.png", "notes", "a.TXT")
    (tmp_path / "list.csv").write_text("path,label\nlive/1.png,live\nspoof/1.png,spoof\n")
    passed = [("a.TXT", ".txt, ignored by the importer"), ("list.csv", ".csv, ignored by the importer")]
    passed.append(("notes", "no suffix, ignored by the importer"))
    outside = "outside the folders of the classes, where all pictures and videos are expected. Move it there."
    found = find_sources(tmp_path, PrepareRecipe())
    assert found.passed_over == passed
    assert [(line.path, line.tried, line.frame) for line in found.unreadable] == [("extra.png", "listing", -1)]
    assert found.unreadable[0].reason.endswith(outside)
    listed = find_sources(tmp_path / "list.csv", PrepareRecipe(importer="csv"))
    assert (listed.passed_over, listed.unreadable, len(listed.faces)) == ([], [], 2)
    (tmp_path / "extra.png").rename(tmp_path / "live" / "extra.png")
    (tmp_path / "list.csv").unlink()
    classes = find_sources(tmp_path, PrepareRecipe(importer="hf"))
    assert (classes.passed_over, len(classes.faces)) == ([passed[0], passed[2]], 3)


def test_why_files_are_left(tmp_path):
    touch(tmp_path, "a.png", "b.txt", "c", "._d.png", "__MACOSX/e.png", "f.dng", "g.tiff", "h")
    (tmp_path / "h").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    for name in ("pipe.png", "pipe"):
        os.mkfifo(tmp_path / name)
    left = [path for path in tmp_path.rglob("*") if path.name != "__MACOSX"]
    why = {path.name: sources_module._why_left(path, "") for path in left}
    assert why == {
        "a.png": ("", ".png, in a place where the importer does not look"),
        "b.txt": ("", ".txt, ignored by the importer"),
        "c": ("", "no suffix, ignored by the importer"),
        "._d.png": ("", ".png, ignored by the importer"),
        "e.png": ("", ".png, ignored by the importer"),
        "h": ("It is a PNG picture by its content. Give it a name that ends in .png.", ""),
        "f.dng": ("It is a camera raw picture (.dng), which is not read. Export it as JPEG or PNG.", ""),
        "g.tiff": ("", ".tiff, in a place where the importer does not look"),
        "link.png": ("", "link, not followed"),
        "pipe.png": ("It is not a regular file (a pipe, a socket or a device).", "no regular file"),
        "pipe": ("", "no regular file"),
    }
    reason, _ = sources_module._why_left(tmp_path / "a.png", "a place")
    assert reason == ("It is a PNG picture outside a place, where all pictures and videos are expected. Move it there.")


def test_files_that_vanish_while_they_are_listed(tmp_path):
    touch(tmp_path, "a.png", "c.png")
    faces = [SourceFace(tmp_path / name, "d", "none", "s", name) for name in ("a.png", "c.png", "z.png", "b.png")]
    with pytest.raises(AgfasError) as caught:
        sources_module._look_around(tmp_path, faces, "")
    assert str(caught.value) == (
        f"2 of 4 files of {tmp_path} are gone since they were listed, the first is {tmp_path / 'b.png'}. Run again once"
        " nothing changes there."
    )


def test_links_are_listed_once_and_folders_behind_them_not_at_all(tmp_path):
    touch(tmp_path / "in", "live/1.png", "spoof/1.png", "y.txt")
    touch(tmp_path / "out", "2.png")
    (tmp_path / "in" / "x").symlink_to(tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeftOut)
        found = find_sources(tmp_path / "in", PrepareRecipe())
    assert found.passed_over == [("x", "link, not followed"), ("y.txt", ".txt, ignored by the importer")]


def test_only_a_link_below_the_source_is_one_on_the_way(tmp_path):
    touch(tmp_path / "real" / "deep", "a.png")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    check_source(tmp_path / "linked" / "deep" / "a.png", tmp_path / "linked")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "real" / "deep")
    (tmp_path / "real" / "deep" / "again").symlink_to(tmp_path / "real" / "deep")
    with pytest.raises(AgfasError, match=r"through a link \(up\); links are not followed"):
        check_source(tmp_path / "real" / "up" / "again" / "a.png", tmp_path)


def test_a_row_passes_the_checks_of_a_file_and_leaves_none(tmp_path, monkeypatch):
    from pipelines.data.importers import hf

    face = SourceFace(Path("SET"), "d", "none", "s", "v", row=3, column="photo")
    monkeypatch.setattr(hf, "picture_bytes", lambda face: png(scene(size=(40, 40))))
    still = read_still(face, tmp_path, tmp_path, keep_file=True)
    assert (still.pixels.shape, still.file, still.note) == ((40, 40, 3), png(scene(size=(40, 40))), "")
    assert read_still(face, tmp_path, tmp_path).file is None
    monkeypatch.setattr(hf, "picture_bytes", lambda face: b"no picture")
    with pytest.raises(AgfasError, match=r"^SET, row 3 of photo, is not a picture"):
        read_still(face, tmp_path, tmp_path)
    assert not any(tmp_path.iterdir())
