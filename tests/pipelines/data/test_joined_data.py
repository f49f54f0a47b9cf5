"""`data.paths`: several prepared datasets as the domains of one experiment."""

from __future__ import annotations

from pathlib import Path

import pytest
from output_folder import make_experiment, write_faces

from pipelines.artefacts.faces import make_faces
from pipelines.data.join import _repeated, join_faces
from pipelines.data.records import CARD_NAME, open_table, read_card
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import with_overrides
from pipelines.experiment.plan import expand, read_plan, record
from pipelines.experiment.workspace import Workspace
from pipelines.files import read_json, write_json
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
