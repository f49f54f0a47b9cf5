"""The files of a store byte by byte: what was written by any version is read by every other."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
from shard_parts import IDENTITY, KEYS, arrays_of, filled_store, new_store

from pipelines.cues.description import create, encode_keys, read_description
from pipelines.cues.layout import encode, ends_hold, map_arrays, sums_of
from pipelines.cues.manifest import Manifest, ShardEntry
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError
from pipelines.files import write_json, write_whole
from pipelines.fingerprint import canonical_json, fingerprint
from pipelines.sums import Damaged, as_text


def file_of(header: str, body: bytes = b"") -> bytes:
    """A file as safetensors lays it out, its header padded to a multiple of 64 bytes."""
    text = header.encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text + body


def test_a_file_byte_by_byte():
    arrays = {
        "b": np.array([[1, 2], [3, 4]], np.uint8), "a": np.array([5], np.uint8), "c": np.array([1.5, -2.0], ">f4"),
        "d": np.zeros((0, 3), np.int64), "e": np.array([7], np.int16),
    }  # fmt: skip
    header = (
        '{"d":{"dtype":"I64","shape":[0,3],"data_offsets":[0,0]},'
        '"c":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        '"e":{"dtype":"I16","shape":[1],"data_offsets":[8,10]},'
        '"a":{"dtype":"U8","shape":[1],"data_offsets":[10,11]},'
        '"b":{"dtype":"U8","shape":[2,2],"data_offsets":[11,15]}}'
    )
    body = np.array([1.5, -2.0], "<f4").tobytes() + b"\7\0" + bytes([5, 1, 2, 3, 4])
    assert b"".join(encode(arrays)) == file_of(header, body)
    codes = {"uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
             "float16": "F16", "float32": "F32", "float64": "F64"}  # fmt: skip
    for name, code in codes.items():
        assert f'"dtype":"{code}"'.encode() in bytes(encode({"x": np.zeros(1, name)})[0])


@pytest.mark.parametrize(
    ("shape", "edges"),
    [
        ((10, 1000), [0, 4000, 8000, 10000]),  # four rows to 4096 bytes
        ((3, 4096), [0, 4096, 8192, 12288]),
        ((3, 4097), [0, 4097, 8194, 12291]),
        ((2, 2048), [0, 4096]),
        ((5000,), [0, 4096, 5000]),
        ((0, 7), [0]),
    ],
)
def test_a_block_is_a_row_or_as_many_as_have_4096_bytes(tmp_path, shape, edges):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pieces = encode({"x": array})
    sums = sums_of(pieces)
    path = tmp_path / "x.safetensors"
    write_whole(path, pieces)
    assert len(sums) == len(edges)  # the header, and each block
    start = len(pieces[0])
    for block, (first, last) in enumerate(pairwise(edges)):
        for place in {first, last - 1}:
            write_whole(path, pieces)
            with path.open("r+b") as stream:
                stream.seek(start + place)
                stream.write(bytes([array.reshape(-1)[place] ^ 1]))
            rows = map_arrays(path, sums, "Do it again.")["x"]
            row = array.nbytes // len(array)
            for other, (begin, end) in enumerate(pairwise(edges)):
                for at in {begin // row, end // row - 1}:
                    if other == block:
                        with pytest.raises(Damaged, match="Do it again"):
                            rows[at]
                    else:
                        assert np.array_equal(rows[at], array[at])
            assert ends_hold(path, sums) == (block != len(edges) - 2)
    write_whole(path, pieces)
    assert ends_hold(path, sums)
    assert ends_hold(path, None)
    assert not ends_hold(path, sums[:-1])
    assert np.array_equal(map_arrays(path, sums)["x"], array)
    assert np.array_equal(map_arrays(path)["x"], array)


ENTRY = '{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        (0).to_bytes(8, "little") + b"{}",
        (57).to_bytes(8, "little") + bytes(56),
        file_of(ENTRY, b"1"),
        file_of(ENTRY, b"123"),
        file_of(ENTRY.replace("[0,2]", "[1,3]"), b"123"),
        file_of(ENTRY.replace("[2]", "[3]"), b"12"),
        file_of(ENTRY.replace("U8", "I16"), b"12"),
        file_of(ENTRY.replace("U8", "Q8"), b"12"),
        file_of(ENTRY.replace('"shape"', '"form"'), b"12"),
        file_of("[1]"),
        file_of('{"x":1}'),
        file_of("{"),
    ],
)
def test_a_header_that_describes_another_file_is_damage(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert not ends_hold(path, None)
    with pytest.raises(Damaged, match=r"x\.safetensors is not what was written"):
        map_arrays(path)


def test_facts_beside_the_arrays_are_passed_over_and_a_changed_header_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of('{"__metadata__":{"a":"b"},' + ENTRY[1:], b"\1\2"))
    assert list(map_arrays(path)) == ["x"]
    assert map_arrays(path)["x"][:].tolist() == [1, 2]
    pieces = encode({"x": np.array([1, 2], np.uint8)})
    sums = sums_of(pieces)
    write_whole(path, [bytes(pieces[0]).replace(b" ", b"\t", 1), *pieces[1:]])
    assert ends_hold(path, None)
    assert not ends_hold(path, sums)
    with pytest.raises(Damaged):
        map_arrays(path, sums)
    with pytest.raises(Damaged):
        map_arrays(path, sums[:0])


def line_of(values: dict) -> bytes:
    return canonical_json({**values, "check": fingerprint(values)}).encode() + b"\n"


def test_a_manifest_line_by_line(tmp_path):
    manifest = Manifest(tmp_path / "manifest.jsonl")
    assert manifest.refresh() == set()
    first, second = ShardEntry(0, "a", "0", 3, 2, {"batch_size": 4}, "sums"), ShardEntry(1, "b", "1", 4, 2)
    manifest.add(first)
    manifest.add(second)
    manifest.revoke(0)
    values = {"task": 0, "file": "a", "sha256": "0", "bytes": 3, "count": 2, "made": {"batch_size": 4}, "sums": "sums"}
    lines = manifest.path.read_bytes().splitlines(keepends=True)
    assert lines[0] == line_of(values)
    assert lines[2] == line_of({"task": 0, "revoked": True})
    assert (manifest.refresh(), manifest.entries) == ({0, 1}, {1: second})
    assert manifest.refresh() == set()
    with manifest.path.open("ab") as stream:
        whole = line_of({**values, "task": 2})
        stream.write(whole[:9])
        stream.flush()
        assert manifest.refresh() == set()  # half a line is no line yet
        stream.write(whole[9:] + whole.replace(b'"task":2', b'"task":3') + canonical_json(values).encode() + b"\n")
    # A line that was changed is not trusted; one of earlier versions has no check.
    assert manifest.refresh() == {0, 2}
    assert sorted(manifest.entries) == [0, 1, 2]
    assert manifest.entries[0] == first


def test_the_description_and_the_keys(tmp_path):
    store = new_store(tmp_path)
    text = "\n".join(KEYS).encode()
    assert (store.folder / "keys.txt").read_bytes() == text
    content = json.loads((store.folder / "store.json").read_bytes())
    content.pop("_sha256", None)
    assert content == {
        "schema": 1, "identity": IDENTITY, "count": 22, "shard_size": 5,
        "keys_sha256": hashlib.sha256(text).hexdigest(),
    }  # fmt: skip
    assert sorted(path.name for path in store.folder.iterdir() if path.name != "claims.lock") == [
        "keys.txt", "shards", "store.json",
    ]  # fmt: skip
    # A second maker leaves the first one's store alone.
    create(store.folder, {"source": "another"}, b"x", 1, 9)
    assert read_description(store.folder)["identity"] == IDENTITY
    with pytest.raises(AgfasError, match="Keys must be unique: 2 of 5 are repeated"):
        encode_keys(["a", "a", "b", "b", "c"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "was written in schema 2; this version reads 1. Remove the folder"),
        ({"schema": None}, "was written in schema None"),
        ({"count": 0}, "is damaged or not what was written. Remove this file"),
        ({"shard_size": 0}, "is damaged"),
        ({"keys_sha256": 7}, "is damaged"),
        ({"shard_size": "many"}, "is damaged"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path, changes, message):
    content = {"schema": 1, "identity": IDENTITY, "count": 1, "shard_size": 1, "keys_sha256": "0"}
    write_json(tmp_path / "store.json", content)
    assert read_description(tmp_path)["count"] == 1
    write_json(tmp_path / "store.json", {**content, **changes})
    with pytest.raises(AgfasError, match=message):
        read_description(tmp_path)
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(AgfasError, match="is damaged"):
        read_description(tmp_path)


def test_the_entry_of_a_shard_and_how_far_a_store_is(tmp_path):
    store = new_store(tmp_path)
    entry = store.write(4, arrays_of([20, 21]), {"batch_size": 2})
    content = (store.folder / "shards" / "00004.safetensors").read_bytes()
    pieces = encode(arrays_of([20, 21]))
    assert content == b"".join(pieces)
    assert entry == ShardEntry(
        4, "00004.safetensors", hashlib.sha256(content).hexdigest(), len(content), 2, {"batch_size": 2},
        as_text(sums_of(pieces)),
    )  # fmt: skip
    assert store.entry(4) == entry
    status = store.status()
    size = len(content)
    assert (status.tasks, status.finished_tasks, status.rows, status.finished_rows) == (5, 1, 22, 2)
    assert (status.bytes, status.damaged, status.complete, status.identity) == (size, (), False, IDENTITY)
    assert str(status) == f"{store.folder.name}: 2 of 22 rows, 1 of 5 shards, 0.0 MB"
    store.write(0, arrays_of(range(5)))
    (store.folder / "shards" / "00000.safetensors").unlink()
    assert str(ShardStore.open(store.folder).status()) == (
        f"{store.folder.name}: 2 of 22 rows, 1 of 5 shards, 1 damaged, 0.0 MB"
    )
    assert ShardStore.open(store.folder).verify_checksums() == [0]
    whole = filled_store(tmp_path).status()
    assert (whole.complete, whole.finished_rows) == (True, 22)
    with pytest.raises(ValueError, match=r"array 'x' has shape \(\); task 0 has 5 rows"):
        new_store(tmp_path).write(0, {"x": np.array(3)})
    with pytest.raises(IndexError, match=r"rows must lie in 0 \.\. 21; got -1 \.\. 3"):
        store.read("mean", [-1, 3])


def test_a_shard_of_other_rows_or_under_another_name_is_not_trusted(tmp_path):
    store = new_store(tmp_path)
    store.write(1, arrays_of(range(5, 10)))
    line = json.loads((store.folder / "manifest.jsonl").read_bytes())
    del line["check"]
    for changes in ({"count": 4}, {"file": "00002.safetensors"}, {"bytes": line["bytes"] + 1}, {"task": 9}):
        (store.folder / "manifest.jsonl").write_bytes(line_of({**line, **changes}))
        assert ShardStore.open(store.folder).unfinished() == [0, 1, 2, 3, 4]
    (store.folder / "manifest.jsonl").write_bytes(line_of(line))
    assert ShardStore.open(store.folder).unfinished() == [0, 2, 3, 4]
