"""The shard store after damage, beside other writers and on a full disk: what it trusts, and what it says."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
from shard_parts import KEYS, arrays_of, filled_store, new_store, shard_bytes

from pipelines import files
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError


def test_damaged_keys_are_found_and_mended(tmp_path):
    store = filled_store(tmp_path)
    path = store.folder / "keys.txt"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(AgfasError, match=r"keys\.txt is damaged"):
        ShardStore.open(store.folder)
    new_store(tmp_path)
    assert path.read_bytes() == whole


def test_torn_line_counts_as_nothing_and_is_repaired(tmp_path):
    store = new_store(tmp_path)
    for task in (0, 1):
        store.write(task, arrays_of(store.task_rows(task)))
    manifest = store.folder / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[: len(whole) - 30])
    store = new_store(tmp_path)
    assert store.unfinished() == [1, 2, 3, 4]
    store.write(1, arrays_of(store.task_rows(1)))
    assert new_store(tmp_path).unfinished() == [2, 3, 4]
    lines = manifest.read_bytes().split(b"\n")
    assert len(lines) == 4  # task 0, the torn line, task 1, and nothing after the last line break
    assert json.loads(lines[2])["task"] == 1


def test_unlisted_and_shortened_shards_are_not_trusted(tmp_path):
    store = filled_store(tmp_path)
    shards = store.folder / "shards"
    (shards / "00002.safetensors").write_bytes(b"short")
    (shards / "00003.safetensors").unlink()
    store = new_store(tmp_path)
    assert store.unfinished() == [2, 3]
    assert store.status().damaged == (2, 3)
    with pytest.raises(AgfasError, match=r"shard 2 .* is not finished"):
        store.read("mean", [11])
    assert filled_store(tmp_path).status().complete


def test_flipped_bit_is_found_and_the_shard_made_again(tmp_path):
    store = filled_store(tmp_path)
    clean = shard_bytes(store.folder)
    path = store.folder / "shards" / "00003.safetensors"
    broken = bytearray(path.read_bytes())
    broken[-7] ^= 16
    path.write_bytes(broken)
    assert new_store(tmp_path).unfinished() == []  # its length is right
    assert store.verify_checksums() == [3]
    assert store.unfinished() == [3]
    assert new_store(tmp_path).unfinished() == [3]
    assert filled_store(tmp_path).verify_checksums() == []
    assert shard_bytes(store.folder) == clean


def test_first_of_two_writers_wins(tmp_path):
    first, second = new_store(tmp_path), new_store(tmp_path)
    first.write(0, arrays_of(range(5)))
    before = shard_bytes(first.folder)
    second.write(0, arrays_of(range(5, 10)))
    assert shard_bytes(first.folder) == before
    assert len((first.folder / "manifest.jsonl").read_text().splitlines()) == 1
    np.testing.assert_array_equal(second.read("mean", [0]), first.read("mean", [0]))


def test_leftover_files_of_the_dead_are_removed_and_of_the_living_kept(tmp_path):
    store = new_store(tmp_path)
    (store.folder / "shards" / ".00000.safetensors.4711.0123456789abcdef.tmp").touch()
    with files.temporary_beside(store.folder / "shards" / "00001.safetensors") as living:
        living.touch()
        new_store(tmp_path)
        assert {path.suffix for path in (store.folder / "shards").iterdir()} == {".tmp", ".lock"}
        assert living.exists()
    assert list((store.folder / "shards").iterdir()) == []


def failing(operation, number):
    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("operation", ["write", "fsync"])
def test_full_disk_loses_nothing(tmp_path, monkeypatch, operation):
    store = new_store(tmp_path)
    store.write(0, arrays_of(range(5)))
    with monkeypatch.context() as patch:
        patch.setattr(files.os, operation, failing(operation, errno.ENOSPC))
        with pytest.raises(AgfasError, match=r"disk is full .* nothing already made is lost, free 1 MB and run again"):
            store.write(1, arrays_of(range(5, 10)))
    assert [path.name for path in (store.folder / "shards").iterdir()] == ["00000.safetensors"]
    assert new_store(tmp_path).unfinished() == [1, 2, 3, 4]
    assert filled_store(tmp_path).verify_checksums() == []


def test_half_written_line_on_a_full_disk(tmp_path, monkeypatch):
    store = new_store(tmp_path)
    write = os.write

    def half(descriptor, data):
        return write(descriptor, data[: len(data) // 2] if b'"sha256"' in bytes(data[:400]) else data)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", half)
        with pytest.raises(AgfasError, match="disk is full"):
            store.write(0, arrays_of(range(5)))
    assert new_store(tmp_path).unfinished() == [0, 1, 2, 3, 4]
    assert filled_store(tmp_path).verify_checksums() == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_folder_that_cannot_be_written(tmp_path, monkeypatch, number):
    store = filled_store(tmp_path)
    store.revoke(2)
    monkeypatch.setattr(files.os, "open", failing("open", number))
    with pytest.raises(AgfasError, match=r"cannot be written .* choose another folder"):
        store.write(2, arrays_of(store.task_rows(2)))
    with pytest.raises(AgfasError, match="cannot be written"):
        ShardStore.create_or_open(tmp_path, {"another": 1}, KEYS, 5)


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "cues").touch()
    with pytest.raises(AgfasError, match="cannot be written"):
        new_store(tmp_path / "cues")


def test_a_manifest_line_that_names_another_tasks_file_is_not_trusted(tmp_path):
    store = filled_store(tmp_path)
    manifest = store.folder / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes().replace(b'"task":2', b'"task":0'))
    assert new_store(tmp_path).unfinished() == [0, 2]
