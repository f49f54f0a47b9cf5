"""Parcels of cues on the hub: whose faces they were made of, and whether they may go there."""

from __future__ import annotations

import shutil

import pytest
from parcel_parts import KEYS, files_of, filled
from stand_in_hub import StandInHub, header_errors
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.cues.exchange.format import FacesFacts, Listing
from pipelines.cues.exchange.transfer import export_cues, local_parcel
from pipelines.cues.identity import store_identity
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError
from pipelines.files import write_json


def described_store(root, licence, kind="prepared"):
    """A store in a run whose faces say of themselves what they are."""
    write_json(root / "faces" / "other" / "face_dataset.json", {"fingerprint": "6543", "licence": "MIT"})
    card = {"fingerprint": "0123", "kind": kind, "title": "their faces", "licence": licence}
    write_json(root / "faces" / "theirs" / "face_dataset.json", card)
    identity = store_identity({"name": "dfg", "timestep": 201}, "0123-32:abcd", (6, 8))
    store = ShardStore.create_or_open(root / "cues", identity, KEYS, 4)
    return filled(store)


def test_a_parcel_says_whose_faces_it_was_made_of(tmp_path):
    for name, licence, kind, facts, head in (
        ("drawn", "", "synthetic", ("the built-in synthetic benchmark", "Apache-2.0"), "license: apache-2.0"),
        ("real", "For research.", "prepared", ("their faces", "For research."), "license_name: terms-of-the-faces"),
    ):
        store, out = described_store(tmp_path / name, licence, kind), tmp_path / name / "out"
        listing = export_cues(store.folder, out)
        assert listing.faces == FacesFacts(*facts)
        assert Listing.read(out) == listing
        card = (out / "README.md").read_text()
        assert header_errors(card) == []
        assert head in card
        assert f"made of {facts[0]}. Its terms hold for them too: {facts[1]}" in card
    with pytest.raises(AgfasError, match=r"other is not the dataset that .* was made of"):
        export_cues(store.folder, tmp_path / "more", store.folder.parents[1] / "faces" / "other")
    shutil.move(store.folder.parents[1] / "faces", tmp_path / "moved")
    assert export_cues(store.folder, tmp_path / "bare").faces is None
    assert "it was not recorded here" in (tmp_path / "bare" / "README.md").read_text()
    assert export_cues(store.folder, tmp_path / "given", tmp_path / "moved" / "theirs").faces == FacesFacts(*facts)


def test_a_parcel_goes_to_the_hub_and_comes_back(tmp_path, monkeypatch):
    from pipelines.hub import Push
    from pipelines.verdict.shipment import pack, send

    store, out = described_store(tmp_path / "run", "", "synthetic"), tmp_path / "out"
    export_cues(store.folder, out)
    monkeypatch.chdir(tmp_path)
    with StandInHub() as hub:
        hub.used(monkeypatch, tmp_path / "cache")
        assert "/datasets/me/cues/commit/" in send(pack(out), "me/cues", None, Push())
        pushed = hub.files("me/cues", kind="datasets")
        assert {name: len(data) for name, data in pushed.items() if name != ".gitattributes"} == {
            name: (out / name).stat().st_size for name in files_of(out)
        }
        result = CliRunner().invoke(app, ["import-cues", "me/cues@main", str(tmp_path / "other")])
        assert result.exit_code == 0, result.output
        assert files_of(tmp_path / "other" / store.folder.name) == files_of(store.folder)
        hub.make("you/faces", {"README.md": b""}, "datasets")
        with pytest.raises(AgfasError, match=r"has no export.json, so it is not an export of `agfas export-cues`"):
            local_parcel("you/faces")
    assert local_parcel(out) == out
    (out / "data" / "cues-00000-of-00003.parquet").write_bytes(b"x")
    with pytest.raises(AgfasError, match="cues-00000"):
        pack(out)


@pytest.mark.parametrize("licence", ["For research.", ""])
def test_a_parcel_of_research_faces_stays_here(tmp_path, licence):
    from pipelines.verdict.shipment import pack

    export_cues(described_store(tmp_path / "run", licence).folder, tmp_path / "out")
    shipment = pack(tmp_path / "out")
    with pytest.raises(AgfasError, match=r"the faces \(their faces\), under .* ask those who collected them"):
        shipment.check()
    shipment.check(["faces"])
