"""`data.paths`: several prepared datasets as the domains of one experiment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import Dataset, Features, Sequence, Value
from datasets import Image as Stored
from output_folder import make_experiment, write_faces
from PIL import Image

from pipelines.artefacts.faces import make_faces
from pipelines.data.intact import SUMS_NAME
from pipelines.data.join import _repeated, join_faces, joined_name
from pipelines.data.records import CARD_NAME, COLUMNS, load_faces, open_table, read_card
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides
from pipelines.experiment.plan import expand, read_plan, record
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json, write_json
from pipelines.fingerprint import fingerprint
from pipelines.stages import chain


def part(folder: Path, domain: str, **card: object) -> str:
    write_faces(folder, domains=(domain,))
    write_json(folder / CARD_NAME, {**read_json(folder / CARD_NAME), "fingerprint": f"of {domain}", **card})
    return str(folder)


@pytest.fixture
def joined(tmp_path) -> Experiment:
    alike = {"template": "agfas", "size": 16}
    paths = [
        part(tmp_path / "one", "kiosk", recipe={**alike, "detector": "yunet"}, licence="Ann's"),
        part(tmp_path / "other", "phone", recipe={**alike, "detector": "retinaface"}, licence="Bob's"),
    ]
    return make_experiment(tmp_path / "run", data={"name": "dataset", "paths": paths, "size": 16})


def test_they_are_joined_when_a_run_needs_them(joined, capsys):
    chain.print_plan(joined)
    assert "nothing made yet" in capsys.readouterr().out
    faces = make_faces(joined)
    assert sorted(set(faces.domains)) == ["kiosk", "phone"]
    assert faces.folder == Workspace(joined).faces
    assert faces.folder.is_relative_to(joined.root / "faces")
    chain.print_plan(joined)
    assert "0 of 2 detectors trained" in capsys.readouterr().out


def test_the_whole_is_named_by_its_parts_content(joined, tmp_path):
    before = Workspace(joined).faces
    (tmp_path / "one").rename(tmp_path / "moved")
    moved = with_overrides(joined, {"data.paths": [str(tmp_path / "other"), str(tmp_path / "moved")]})
    assert Workspace(moved).faces == before
    record(joined.root, expand(moved))
    assert read_plan(joined.root)[0].experiment == moved


def test_the_card_keeps_what_the_parts_share(joined):
    card = read_card(make_faces(joined).folder)
    assert card["recipe"] == {"template": "agfas", "size": 16}
    assert card["licence"] == "Ann's; Bob's"


def test_two_of_one_domain_are_refused(joined, tmp_path):
    again = part(tmp_path / "again", "kiosk")
    with pytest.raises(AgfasError, match="both hold the domain 'kiosk'"):
        make_faces(with_overrides(joined, {"data.paths": [*map(str, joined.data.paths), again]}))


def test_domains_that_differ_in_case_only_are_one(tmp_path):
    folders = [Path(part(tmp_path / name, name)) for name in ("Kiosk", "kiosk")]
    with pytest.raises(AgfasError, match="both hold the domain 'kiosk', spelled 'Kiosk' in the first"):
        join_faces(folders, tmp_path / "whole")


def test_pictures_of_two_datasets_are_counted(tmp_path):
    write_faces(tmp_path / "one", domains=("kiosk",))
    table = open_table(tmp_path / "one")
    pictures = {row["bytes"] for row in table.column("image").to_pylist()}
    assert _repeated([table, table]) == len(pictures) > 0
    assert _repeated([table]) == 0


def test_the_whole_is_written_once_with_all_that_its_parts_say(joined, capsys):
    folders = [Path(path) for path in joined.data.paths]
    out = join_faces(folders, joined.root / "whole")
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*names, CARD_NAME, "dataset_info.json", "state.json", SUMS_NAME]
    )
    assert [file["filename"] for file in read_json(out / "state.json")["_data_files"]] == names
    name = fingerprint({"joined": ["of kiosk", "of phone"]})
    assert joined_name(folders) == joined_name(folders[::-1]) == read_json(out / "state.json")["_fingerprint"] == name
    assert json.loads((out / CARD_NAME).read_text()) == {
        "fingerprint": name,
        "faces": 40,
        "joined": ["of kiosk", "of phone"],
        "recipe": {"template": "agfas", "size": 16},
        "licence": "Ann's; Bob's",
    }
    assert set(read_json(out / SUMS_NAME)["files"]) == {*names, CARD_NAME, "dataset_info.json", "state.json"}
    assert "faces lie in more than one" not in capsys.readouterr().out
    whole, parts = load_faces(out), [load_faces(folder) for folder in folders]
    assert whole.features == parts[0].features
    for column in ("key", "label", "landmarks", "frame"):
        assert whole[column][:] == [value for part in parts for value in part[column]]
    assert [image.tobytes() for image in whole["image"]] == [i.tobytes() for part in parts for i in part["image"]]
    before = (out / CARD_NAME).stat().st_mtime_ns
    assert join_faces(folders, out) == out
    assert (out / CARD_NAME).stat().st_mtime_ns == before


def test_faces_of_both_parts_are_said(tmp_path, capsys):
    """Under another domain's name."""
    folders = [Path(part(tmp_path / name, "kiosk")) for name in ("one", "other")]
    table = load_faces(folders[1])
    folders[1] = tmp_path / "else"
    renamed = table.remove_columns("domain").add_column("domain", ["else"] * len(table))
    renamed.save_to_disk(str(folders[1]))
    write_json(folders[1] / CARD_NAME, {"fingerprint": "else", "licence": "", "simulated": ["else"]})
    out = join_faces(folders, tmp_path / "whole")
    same = len({image.tobytes() for image in table["image"]})
    assert (
        f"{same} faces lie in more than one of {folders[0]}, {folders[1]}, pixel for pixel" in capsys.readouterr().out
    )
    card = read_card(out)
    assert (card["recipe"], card["licence"]) == ({}, "the terms of whoever collected them")
    assert card["simulated"] == ["else"]


def test_columns_that_a_part_lacks_are_empty_and_masks_are_of_all(tmp_path):
    def table(domain: str, **more) -> Dataset:
        few = load_faces(Path(part(tmp_path / f"plain {domain}", domain))).select([0, 1])
        features = Features({**few.features, **{name: kind for name, (kind, _) in more.items()}})
        columns = {name: few[name][:] for name in few.column_names}
        return Dataset.from_dict({**columns, **{name: values for name, (_, values) in more.items()}}, features=features)

    masks = [Image.new("L", (4, 4), 255)] * 2
    with_all = {
        "mask": (Stored(), masks),
        "frame_rule": (Value("string"), ["uniform", ""]),
        "box": (Sequence(Value("float32"), length=4), [[1, 2, 3, 4], None]),
        "source": (Value("string"), ["a.png", "b.png"]),
    }
    tables = {"a": with_all, "b": {"mask": (Stored(), masks)}, "c": {}}
    for name, more in tables.items():
        table(name, **more).save_to_disk(str(tmp_path / name))
        write_json(tmp_path / name / CARD_NAME, {"fingerprint": name})
    both = open_table(join_faces([tmp_path / "a", tmp_path / "b"], tmp_path / "ab"))
    assert set(both.column_names) == {*COLUMNS, "mask", "frame_rule", "box"}
    assert both.column("frame_rule").to_pylist() == ["uniform", "", None, None]
    assert both.column("box").to_pylist() == [[1, 2, 3, 4], None, None, None]
    assert both.column("mask").null_count == 0
    assert "mask" not in open_table(join_faces([tmp_path / "b", tmp_path / "c"], tmp_path / "bc")).column_names
