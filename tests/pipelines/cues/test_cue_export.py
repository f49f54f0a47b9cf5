"""Cue stores travel as parquet files and come back with equal bytes, or not at all."""

from __future__ import annotations

import json
import random
import shutil
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from parcel_parts import FACES, KEYS, RESTORED, files_of, filled_store, new_store
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.cues.exchange import format, transfer
from pipelines.cues.exchange.card import card_of
from pipelines.cues.exchange.format import ExportedShard, Listing, read_shard
from pipelines.cues.exchange.transfer import export_cues, import_cues
from pipelines.cues.store import CueStore, cue_arrays
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.fingerprint import file_sha256, fingerprint


@pytest.fixture
def exported(tmp_path):
    store = filled_store(tmp_path / "cues")
    export_cues(store.folder, tmp_path / "out")
    return tmp_path / "out"


def test_there_and_back_with_equal_bytes(tmp_path, exported):
    original = filled_store(tmp_path / "cues").folder
    folder = import_cues(exported, tmp_path / "other")
    assert folder.name == original.name
    there, back = files_of(original), files_of(folder)
    assert back == there  # keys, description, every shard, and the manifest with how each was made
    assert len([name for name in back if name.startswith("shards/")]) == 3
    np.testing.assert_array_equal(CueStore.open(folder).join(KEYS)[:], RESTORED)
    assert import_cues(exported, tmp_path / "other") == folder  # nothing left to do
    assert files_of(folder) == there


def test_groups_of_rows_are_put_together_again(tmp_path, monkeypatch):
    store = filled_store(tmp_path / "cues")
    monkeypatch.setattr(format, "_BYTES_OF_A_GROUP", 3 * RESTORED[0].nbytes)
    export_cues(store.folder, tmp_path / "out")
    assert pq.ParquetFile(tmp_path / "out" / "data" / "cues-00000-of-00003.parquet").num_row_groups == 2
    assert files_of(import_cues(tmp_path / "out", tmp_path / "other")) == files_of(store.folder)


def test_the_hub_reads_what_the_card_says(tmp_path, exported):
    rows = load_dataset(str(exported), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == ["key", "reconstruction", "shape", "residual_mean", "residual_std"]
    assert list(rows["key"]) == KEYS
    picture = np.frombuffer(rows[5]["reconstruction"], np.uint8).reshape(rows[5]["shape"])
    np.testing.assert_array_equal(picture, RESTORED[5])
    card = (exported / "README.md").read_text()
    assert "8 pixels\nwide and 6 high" in card
    assert "`dfg` at t = 201" in card
    assert "n<1K" in card


def test_a_parcel_piece_by_piece(tmp_path, exported):
    store = filled_store(tmp_path / "cues")
    listing = read_json(exported / "export.json")
    listing.pop("_sha256", None)
    names = [f"data/cues-{task:05d}-of-00003.parquet" for task in range(3)]
    assert listing == {
        "schema": 1,
        "identity": store.identity,
        "count": 11,
        "shard_size": 4,
        "keys_sha256": read_json(store.folder / "store.json")["keys_sha256"],
        "shards": [
            {
                "task": task,
                "file": name,
                "sha256": file_sha256(exported / name),
                "shard_sha256": store.entry(task).sha256,
                "made": {"batch_size": 2},
            }
            for task, name in enumerate(names)
        ],
        "faces": None,
    }
    assert sorted(files_of(exported)) == ["README.md", *names, "export.json"]
    with pq.ParquetFile(exported / names[2]) as file:
        assert json.loads(file.schema_arrow.metadata[b"agfas.cues"]) == {"identity": store.identity, "task": 2}
        kinds = [(field.name, str(field.type)) for field in file.schema_arrow]
        assert kinds == [
            ("key", "string"), ("reconstruction", "binary"), ("shape", "fixed_size_list<element: int32>[3]"),
            ("residual_mean", "float"), ("residual_std", "float"),
        ]  # fmt: skip
        (group,) = (file.metadata.row_group(number) for number in range(file.num_row_groups))
        columns = [group.column(number) for number in range(group.num_columns)]
        assert {column.compression for column in columns} == {"ZSTD"}
        assert [column.is_stats_set for column in columns] == [True, False, False, True, True]
        assert not any("DICTIONARY" in encoding for column in columns for encoding in column.encodings)
        rows = file.read().to_pylist()
    assert [row["key"] for row in rows] == KEYS[8:]
    assert [row["shape"] for row in rows] == [[6, 8, 3]] * 3
    assert [row["reconstruction"] for row in rows] == [picture.tobytes() for picture in RESTORED[8:]]
    arrays = cue_arrays(FACES[8:], RESTORED[8:])
    for name in ("residual_mean", "residual_std"):
        assert [row[name] for row in rows] == arrays[name].tolist()
    card = (exported / "README.md").read_text()
    for line in (
        *(f"pretty_name: Cues {store.folder.name}", "license: other", "- image-classification", "- face-anti-spoofing"),
        *("- presentation-attack-detection", "- agfas-cues", "- n<1K", "- config_name: default", "  - split: train"),
        *("    path: data/*.parquet", '  "dataset": "faces",', "What 11 faces would look like if they were real"),
    ):
        assert line in card, line
    (exported / ".git").mkdir()
    (exported / "data" / ".part").touch()
    assert export_cues(store.folder, exported) == Listing.read(exported)


def test_what_is_shown_while_shards_are_written(tmp_path, monkeypatch):
    shown = []

    def track(items, *words, **options):
        shown.append((words, options))
        return items

    monkeypatch.setattr(transfer, "track", track)
    store = filled_store(tmp_path / "cues")
    export_cues(store.folder, tmp_path / "out")
    import_cues(tmp_path / "out", tmp_path / "other")
    assert shown == [(("export",), {"unit": "shard"}), (("import",), {"unit": "shard"})]


def test_a_listing_s_counts():
    shards = tuple(ExportedShard(task, f"data/cues-{task:05d}-of-00003.parquet", "", "") for task in range(3))
    listing = Listing({"source": {"name": "memae"}, "image_size": [6, 8]}, 11, 4, "0", shards)
    assert (listing.tasks, [listing.rows(shard) for shard in shards]) == (3, [4, 4, 3])
    assert (Listing({}, 12, 4, "0", ()).tasks, Listing({}, 13, 4, "0", ()).tasks) == (3, 4)
    assert listing.store == fingerprint(listing.identity)
    card = card_of(listing)
    assert "each one restored by `memae`, 8 pixels" in card


@pytest.mark.parametrize(
    ("size", "is_allowed"), [([2, 16384], True), ([1, 8], False), ([8, 16385], False), ([8], False), ([8, 8, 3], False)]
)
def test_sides_of_pictures_are_bounded(tmp_path, exported, size, is_allowed):
    listing = read_json(exported / "export.json")
    listing["identity"]["image_size"] = size
    write_json(exported / "export.json", listing)
    if is_allowed:
        assert Listing.read(exported).identity["image_size"] == size
    else:
        with pytest.raises(AgfasError, match="is damaged"):
            Listing.read(exported)


@pytest.mark.parametrize(("rows", "size"), [(3, (6, 8)), (5, (6, 8))])
def test_a_shard_of_other_rows_is_refused(exported, rows, size):
    path = exported / "data" / "cues-00000-of-00003.parquet"
    assert len(read_shard(path, 4, (6, 8))["reconstruction"]) == 4
    with pytest.raises(AgfasError, match=f"it holds 4 rows of .* bytes; expected are {rows} rows"):
        read_shard(path, rows, size)


def test_a_broken_off_import_goes_on(tmp_path, exported):
    whole = files_of(filled_store(tmp_path / "cues").folder)
    last = exported / "data" / "cues-00002-of-00003.parquet"
    kept = last.read_bytes()
    damage(last)
    with pytest.raises(AgfasError, match="was changed after it was exported"):
        import_cues(exported, tmp_path / "other")
    assert new_store(tmp_path / "other").unfinished() == [2]
    last.write_bytes(kept)
    assert files_of(import_cues(exported, tmp_path / "other")) == whole


def damage(path, place=40):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_file_of_another_store_is_refused(tmp_path, exported):
    other = filled_store(tmp_path / "cues", timestep=401)
    export_cues(other.folder, tmp_path / "out-401")
    name = "data/cues-00001-of-00003.parquet"
    shutil.copy(tmp_path / "out-401" / name, exported / name)
    with pytest.raises(AgfasError, match=f"belongs to another store, {other.folder.name}"):
        import_cues(exported, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_part_of_an_export_is_refused(tmp_path, exported):
    (exported / "data" / "cues-00001-of-00003.parquet").unlink()
    with pytest.raises(AgfasError, match="only part of an export: 1 of 3 files are missing, data/cues-00001"):
        import_cues(exported, tmp_path / "other")
    (exported / "export.json").unlink()
    with pytest.raises(AgfasError, match=r"is no complete export: it has no export\.json"):
        import_cues(exported, tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda listing: listing["shards"].pop(), "1 of 3 files are missing"),
        (lambda listing: listing.update(keys_sha256="0" * 64), "the keys in .* are not those"),
        (lambda listing: listing.update(schema=9), "schema 9"),
        (lambda listing: listing.pop("identity"), "damaged"),
        (lambda listing: listing["shards"][0].update(shard_sha256="0" * 64), "does not hold the cues"),
        (lambda listing: listing["shards"][0].update(file="data/../../cues.parquet"), "is damaged"),
        (lambda listing: listing["shards"][0].update(task=10**30), "only part of an export"),
        (lambda listing: listing.update(count=10**18), "only part of an export"),
        (lambda listing: listing.update(shard_size=0), "is damaged"),
        (lambda listing: listing.update(count=11.5), "is damaged"),
        (lambda listing: listing["identity"].update(image_size=[10**9, 10**9]), "is damaged"),
        (lambda listing: listing["identity"].update(source=3), "is damaged"),
        (lambda listing: listing.update(shards={"a": 1}), "is damaged"),
        (lambda listing: listing["shards"][0].update(file="data/cues-00001-of-00003.parquet"), "holds shard 1, not 0"),
    ],
)
def test_a_changed_listing_is_refused(tmp_path, exported, change, message):
    listing = read_json(exported / "export.json")
    change(listing)
    write_json(exported / "export.json", listing)
    with pytest.raises(AgfasError, match=message):
        import_cues(exported, tmp_path / "other")


def test_a_file_that_is_no_parquet_is_refused(tmp_path, exported):
    (exported / "data" / "cues-00000-of-00003.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(AgfasError, match="is not a parquet file of cues"):
        import_cues(exported, tmp_path / "other")


RENAMED = ["key", "reconstruction", "sides", "residual_mean", "residual_std"]
DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "column names": lambda path: pq.write_table(pq.read_table(path).rename_columns(RENAMED), path),
    "column types": lambda path: pq.write_table(
        pq.read_table(path).set_column(3, "residual_mean", pa.array(["0.5"] * 4)), path
    ),
    "a list": lambda path: (path.parents[1] / "export.json").write_text("[]"),
    "nested": lambda path: (path.parents[1] / "export.json").write_text("[" * 10_000),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_parcel_is_one_sentence(tmp_path, exported, kind):
    DAMAGES[kind](exported / "data" / "cues-00000-of-00003.parquet")
    with pytest.raises(AgfasError) as error:
        import_cues(exported, tmp_path / "other")
    assert str(exported) in str(error.value)
    assert len(str(error.value)) < 600
    assert not (tmp_path / "other").exists()


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path, exported):
    whole, draws = files_of(filled_store(tmp_path / "cues").folder), random.Random(5)
    files = sorted(path for path in exported.rglob("*") if path.suffix in (".json", ".parquet"))
    for number in range(12):
        path = files[number % len(files)]
        kept = path.read_bytes()
        data = bytearray(kept)
        data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
        path.write_bytes(data)
        with suppress(AgfasError):
            assert files_of(import_cues(exported, tmp_path / f"other-{number}")) == whole
        path.write_bytes(kept)


def test_a_store_that_is_there_is_not_overwritten(tmp_path, exported):
    filled_store(tmp_path / "finer", shard_size=2)
    with pytest.raises(AgfasError, match="exists in shards of 2"):
        import_cues(exported, tmp_path / "finer")
    store = new_store(tmp_path / "differs")
    store.write(0, cue_arrays(FACES[:4], 255 - RESTORED[:4]))
    with pytest.raises(AgfasError, match=r"shard 0 of .* exists and differs"):
        import_cues(exported, tmp_path / "differs")
    new_store(tmp_path / "other-faces", keys=KEYS[1:])
    with pytest.raises(AgfasError, match="other than the 11"):
        import_cues(exported, tmp_path / "other-faces")


def test_only_whole_stores_are_exported(tmp_path):
    store = filled_store(tmp_path / "cues")
    damage(store.folder / "shards" / "00001.safetensors", -1 - RESTORED[:4].nbytes)  # a mean or standard deviation
    with pytest.raises(AgfasError, match=r"shard 1 of .* has a wrong checksum"):
        export_cues(store.folder, tmp_path / "out")
    with pytest.raises(AgfasError, match="is not finished: 1 of 3 shards"):
        export_cues(store.folder, tmp_path / "out")
    assert not (tmp_path / "out" / "export.json").exists()
    filled_store(tmp_path / "cues")
    export_cues(store.folder, tmp_path / "out")  # what the broken export left is made again
    assert len(Listing.read(tmp_path / "out").shards) == 3


def test_a_broken_export_leaves_no_listing_of_the_one_before(tmp_path, exported):
    store = filled_store(tmp_path / "cues")
    damage(store.folder / "shards" / "00001.safetensors", -1 - RESTORED[:4].nbytes)
    with pytest.raises(AgfasError, match="has a wrong checksum and was revoked"):
        export_cues(store.folder, exported)
    assert not (exported / "export.json").exists()


def test_nothing_else_is_overwritten(tmp_path, exported):
    store = filled_store(tmp_path / "cues")
    export_cues(store.folder, exported)
    with pytest.raises(AgfasError, match="the export of another store"):
        export_cues(filled_store(tmp_path / "cues", timestep=401).folder, exported)
    for name in ("README.md", "notes.txt"):
        folder = tmp_path / name[:5]
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(AgfasError, match=f"something else than an export of this store: {name}"):
            export_cues(store.folder, folder)
        assert (folder / name).read_text() == "mine"
    with pytest.raises(AgfasError, match="is a file"):
        export_cues(store.folder, folder / name)


def test_commands(tmp_path):
    store = filled_store(tmp_path / "cues")
    result = CliRunner().invoke(app, ["export-cues", str(store.folder), str(tmp_path / "out")])
    assert "11 cues: " in result.output
    result = CliRunner().invoke(app, ["import-cues", str(tmp_path / "out"), str(tmp_path / "other")])
    assert files_of(tmp_path / "other" / store.folder.name) == files_of(store.folder)
    assert str(tmp_path / "other") in result.output
