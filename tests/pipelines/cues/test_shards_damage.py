"""The shard store after damage, beside other writers and on a full disk: what it trusts, and what it says."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil

import numpy as np
import pytest
from shard_parts import IDENTITY, KEYS, arrays_of, filled_store, new_store, shard_bytes

from pipelines import files, locks
from pipelines.artefacts.cues import is_whole
from pipelines.cues.layout import encode
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError
from pipelines.fingerprint import canonical_json, fingerprint


def test_damaged_keys_are_found_and_mended(tmp_path):
    store = filled_store(tmp_path)
    path = store.folder / "keys.txt"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(AgfasError, match=r"keys\.txt is not what was written .* writes that file again"):
        ShardStore.open(store.folder)
    assert not is_whole(store.folder)  # so that the cue job runs
    new_store(tmp_path)
    assert is_whole(store.folder)
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
    flip(path, len(path.read_bytes()) - 5 * 48 - 7)  # a mean: neither the header nor the last block
    assert new_store(tmp_path).unfinished() == []
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


def flip(path, place, bit=4):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def old_lines(store):
    """The manifest as an earlier version wrote it: a checksum of the whole shard alone."""
    manifest = store.folder / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_bytes().splitlines()]
    for line in lines:
        del line["check"], line["sums"]
    manifest.write_bytes(b"".join(canonical_json(line).encode() + b"\n" for line in lines))


def read_all(root):
    """Every row of a store as a reader finds it."""
    store = ShardStore.open(root / fingerprint(IDENTITY))
    rows = np.arange(len(KEYS))
    return {name: store.read(name, rows) for name in ("picture", "mean")}


def is_right(root):
    found, expected = read_all(root), arrays_of(np.arange(len(KEYS)))
    return all(np.array_equal(found[name], expected[name]) for name in expected)


def test_an_older_manifest_is_read_and_a_line_that_names_another_tasks_file_is_not_trusted(tmp_path):
    store = filled_store(tmp_path)
    old_lines(store)
    assert is_right(tmp_path)
    manifest = store.folder / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes().replace(b'"task":2', b'"task":0'))
    assert new_store(tmp_path).unfinished() == [0, 2]


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def zeros_to_the_end(path):
    data = path.read_bytes()
    path.write_bytes(data[:400].ljust(len(data), b"\0"))


def swapped(path):
    other = path.with_name("00001.safetensors")
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def of_another_store(path):
    path.write_bytes(b"".join(encode(arrays_of(range(100, 105)))))


def shorter(path):
    path.write_bytes(path.read_bytes()[:-1])


def longer(path):
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGES = [zeros, zeros_to_the_end, swapped, of_another_store, shorter, longer]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_shard_that_is_another_file_is_not_trusted_and_made_again(tmp_path, damage):
    """As after a power cut, or a copy under a wrong name: seen when a store is opened, resumed and counted."""
    store = filled_store(tmp_path)
    clean = shard_bytes(store.folder)
    damage(store.folder / "shards" / "00002.safetensors")
    again = ShardStore.open(store.folder)
    assert again.status().damaged == ((1, 2) if damage is swapped else (2,))
    assert "damaged" in str(again.status())
    with pytest.raises(AgfasError, match=r"shard 2 .* is not finished"):
        again.read("mean", [11])
    assert filled_store(tmp_path).status().complete
    assert shard_bytes(store.folder) == clean
    # A reader that had it open before notices as well.
    damage(store.folder / "shards" / "00002.safetensors")
    if damage not in (shorter, longer):
        with pytest.raises(AgfasError, match=r"2\.safetensors is not what was written .* makes this shard again"):
            store.read("picture", [11])


@pytest.mark.parametrize("damage", [zeros, zeros_to_the_end, of_another_store])
def test_shards_of_earlier_versions_are_compared_as_a_whole(tmp_path, damage):
    store = filled_store(tmp_path)
    old_lines(store)
    clean = shard_bytes(store.folder)
    damage(store.folder / "shards" / "00002.safetensors")
    with pytest.raises(AgfasError, match=r"2\.safetensors is not what was written|shard 2 .* is not finished"):
        read_all(tmp_path)
    filled_store(tmp_path)
    assert is_right(tmp_path)
    assert shard_bytes(store.folder) == clean


def test_a_flipped_bit_is_noticed_by_a_reader_that_has_the_shard_open_and_revoked_for_the_next_run(tmp_path):
    store = filled_store(tmp_path)
    assert store.read("mean", [15])[0] == np.float32(5)
    path = store.folder / "shards" / "00003.safetensors"
    place = len(path.read_bytes()) - 5 * 48 - 7
    with path.open("r+b") as stream:  # in place, as the disk does it
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 1]))
    with pytest.raises(AgfasError, match=r"00003\.safetensors is not what was written \(its checksum differs\)"):
        store.read("mean", [0, 15])
    assert new_store(tmp_path).unfinished() == [3]
    filled_store(tmp_path)
    store.refresh()
    assert store.read("mean", [15])[0] == np.float32(5)  # once another process has made it again


def test_a_damaged_shard_of_a_store_that_cannot_be_written(tmp_path, monkeypatch):
    store = filled_store(tmp_path)
    path = store.folder / "shards" / "00003.safetensors"
    flip(path, len(path.read_bytes()) - 5 * 48 - 7)
    reader = ShardStore.open(store.folder)
    monkeypatch.setattr(locks.os, "open", failing("open", errno.EROFS))
    with pytest.raises(AgfasError, match=r"00003\.safetensors is not .* cannot be written. Remove that file"):
        reader.read("mean", [15])


def test_a_description_that_was_changed_is_refused_and_mended(tmp_path):
    store = filled_store(tmp_path)
    path, clean = store.folder / "store.json", (store.folder / "store.json").read_bytes()
    path.write_bytes(clean.replace(b'"shard_size": 5', b'"shard_size": 4'))
    with pytest.raises(AgfasError, match=r"store\.json is damaged or not .* Remove this file and run"):
        ShardStore.open(store.folder)
    path.unlink()
    assert new_store(tmp_path).unfinished() == []
    assert path.read_bytes() == clean
    older = json.loads(clean)
    del older["_sha256"]
    path.write_text(json.dumps(older))
    assert is_right(tmp_path)


def test_a_store_under_the_name_of_another_is_refused(tmp_path):
    store = filled_store(tmp_path)
    other = store.folder.with_name("0123456789abcdef")
    store.folder.rename(other)
    with pytest.raises(AgfasError, match=r"holds the store .*, whose name it does not have"):
        ShardStore.open(other)


def crlf(data):
    return data.replace(b"\n", b"\r\n")


def empty(data):
    return b""


def twice(data):
    return data + data


def null_bytes(data):
    return bytes(len(data))


def nested(data):
    return b"[" * 100_000 + b"\n" + b'{"task":1e999,"revoked":1}\n[1]\n' + data


@pytest.mark.parametrize("change", [crlf, empty, twice, null_bytes, nested])
def test_a_manifest_of_another_shape_changes_no_cue(tmp_path, change):
    store = filled_store(tmp_path)
    clean = shard_bytes(store.folder)
    manifest = store.folder / "manifest.jsonl"
    manifest.write_bytes(change(manifest.read_bytes()))
    lost = change in (empty, null_bytes)
    assert new_store(tmp_path).unfinished() == ([0, 1, 2, 3, 4] if lost else [])
    filled_store(tmp_path)
    assert is_right(tmp_path)
    assert shard_bytes(store.folder) == clean


def fuzz(tmp_path, seed, old):
    """Flip one bit of any file of a store: readers get the right rows or a sentence, and a run mends the store."""
    draws = random.Random(seed)
    store = filled_store(tmp_path)
    if old:
        old_lines(store)
    clean = shard_bytes(store.folder)
    path = draws.choice(sorted(path for path in store.folder.rglob("*") if path.stat().st_size and path.is_file()))
    flip(path, draws.randrange(path.stat().st_size), draws.randrange(8))
    try:
        assert is_right(tmp_path), path.name
    except AgfasError:
        if path.name == "store.json":
            path.unlink()
    filled_store(tmp_path)
    assert is_right(tmp_path), path.name
    assert shard_bytes(store.folder) == clean


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_one_flipped_bit_in_a_store_changes_no_cue(tmp_path, seed, old):
    fuzz(tmp_path, seed, old)


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
def test_hundreds_of_flipped_bits_in_stores_change_no_cue(tmp_path, old):
    for seed in range(150):
        fuzz(tmp_path / str(seed), seed, old)


@pytest.mark.parametrize("order", [("manifest.jsonl", "shards"), ("shards", "manifest.jsonl")])
def test_a_store_that_was_copied_while_it_was_written_is_finished_to_the_bytes_of_a_clean_run(tmp_path, order):
    store = new_store(tmp_path / "one")
    write = {task: arrays_of(store.task_rows(task)) for task in range(store.tasks)}
    for task in (0, 1):
        store.write(task, write[task])
    copy = tmp_path / "two" / store.folder.name
    shutil.copytree(store.folder, copy, ignore=lambda *_: order)
    with files.temporary_beside(store.folder / "shards" / "00002.safetensors") as half:
        half.write_bytes(b"half")
        for name in order:
            place = store.folder / name
            (shutil.copytree if place.is_dir() else shutil.copy)(place, copy / name)
            store.write(3, write[3])
    seen = ShardStore.open(copy)
    assert seen.unfinished() == [2, 3, 4]
    np.testing.assert_array_equal(seen.read("mean", [0, 9]), store.read("mean", [0, 9]))
    filled_store(tmp_path / "two")
    assert shard_bytes(copy) == shard_bytes(filled_store(tmp_path / "one").folder)
    assert read_all(tmp_path / "two")["mean"].shape == (len(KEYS),)
