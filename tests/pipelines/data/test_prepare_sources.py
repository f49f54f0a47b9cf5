"""Lists, Hugging Face datasets, names that climb, ratios and limits."""

from __future__ import annotations

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

from pipelines.data.faces import open_faces
from pipelines.data.prepare.settings import PrepareRecipe
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
