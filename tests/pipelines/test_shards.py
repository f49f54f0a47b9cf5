"""The shard store: what it writes, what it trusts, and what it says when it cannot."""

from __future__ import annotations

import errno
import json
import os
import pickle
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipelines.cues import durable
from pipelines.cues.layout import encode, map_arrays
from pipelines.cues.shards import ShardStore
from pipelines.cues.tasks import deal, run_tasks
from pipelines.errors import AgfasError
from pipelines.fingerprint import fingerprint

KEYS = [f"d/s{i // 4}/v{i // 2}/{i:03d}" for i in range(22)]
IDENTITY = {"source": "test", "t": 401}


def arrays_of(rows):
    """Rows made from their numbers alone."""
    rows = np.asarray(rows)
    picture = (rows[:, None, None, None] * 7 + np.arange(48).reshape(4, 4, 3)) % 251
    return {"picture": picture.astype(np.uint8), "mean": rows.astype(np.float32) / 3}


def new_store(root, shard_size=5):
    return ShardStore.create_or_open(root, IDENTITY, KEYS, shard_size)


def filled_store(root, shard_size=5):
    store = new_store(root, shard_size)
    for task in store.unfinished():
        store.write(task, arrays_of(store.task_rows(task)))
    return store


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}


def test_tasks_follow_from_keys_and_shard_size_alone(tmp_path):
    store = new_store(tmp_path)
    assert store.folder.name == fingerprint(IDENTITY)
    assert store.tasks == 5
    assert [len(store.task_rows(task)) for task in range(5)] == [5, 5, 5, 5, 2]
    assert store.unfinished() == [0, 1, 2, 3, 4]
    # A store that exists keeps its own cut.
    assert new_store(tmp_path, shard_size=9).tasks == 5


def test_what_is_written_is_read_in_any_order(tmp_path):
    store = filled_store(tmp_path)
    rows = np.array([21, 0, 7, 7, 13, 4, 5])
    for name, expected in arrays_of(rows).items():
        np.testing.assert_array_equal(store.read(name, rows), expected)
    assert store.read("picture", []).shape == (0, 4, 4, 3)
    np.testing.assert_array_equal(store.rows([KEYS[i] for i in rows]), rows)
    with pytest.raises(IndexError, match=r"0 \.\. 21"):
        store.read("picture", [22])
    with pytest.raises(AgfasError, match="holds mean, picture, not 'latents'"):
        store.read("latents", [1])


def test_reopened_by_folder_and_by_pickle(tmp_path):
    store = filled_store(tmp_path)
    for other in (ShardStore.open(store.folder), pickle.loads(pickle.dumps(store))):
        assert other.keys == KEYS
        assert other.status() == store.status()
        np.testing.assert_array_equal(other.read("mean", [3, 20]), store.read("mean", [3, 20]))


def test_views_are_mapped_not_copied(tmp_path):
    view = filled_store(tmp_path).view(1, "picture")
    assert not view.flags.writeable
    assert not view.flags.owndata
    np.testing.assert_array_equal(view, arrays_of(range(5, 10))["picture"])


def test_shards_are_safetensors(tmp_path):
    store = filled_store(tmp_path)
    loaded = load_file(store.folder / "shards" / "00001.safetensors")
    for name, expected in arrays_of(range(5, 10)).items():
        np.testing.assert_array_equal(loaded[name], expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16", "float32", "float64"])
def test_layout_round_trip(tmp_path, dtype):
    arrays = {"b": np.arange(6, dtype=dtype).reshape(3, 2)[:, ::-1], "a": np.zeros((3, 0, 2), dtype=dtype)}
    path = tmp_path / "x.safetensors"
    durable.write_whole(path, encode(arrays))
    for loaded in (map_arrays(path), load_file(path)):
        for name, expected in arrays.items():
            assert loaded[name].dtype == expected.dtype
            np.testing.assert_array_equal(loaded[name], expected)


def test_layout_refuses_what_the_format_lacks():
    with pytest.raises(ValueError, match="'a' has dtype complex64"):
        encode({"a": np.zeros(2, dtype=np.complex64)})


def test_wrong_number_of_rows_is_refused(tmp_path):
    store = new_store(tmp_path)
    with pytest.raises(ValueError, match="task 4 has 2 rows"):
        store.write(4, arrays_of(range(5)))
    assert store.status().finished_tasks == 0


@pytest.mark.parametrize(
    ("keys", "shard_size", "message"),
    [
        ([], 5, "dataset is empty"),
        (["a", "b", "a"], 5, "1 of 3 are doubled"),
        (["a", "b\nc"], 5, "line break"),
        (["a", ""], 5, "empty"),
        (["a"], 0, "at least 1"),
    ],
)
def test_keys_that_make_no_store(tmp_path, keys, shard_size, message):
    with pytest.raises(AgfasError, match=message):
        ShardStore.create_or_open(tmp_path, IDENTITY, keys, shard_size)


def test_other_keys_under_one_identity_are_refused(tmp_path):
    new_store(tmp_path)
    with pytest.raises(AgfasError, match="22 other keys than the 21"):
        ShardStore.create_or_open(tmp_path, IDENTITY, KEYS[1:], 5)


def test_absent_keys_are_counted_and_named(tmp_path):
    store = filled_store(tmp_path)
    with pytest.raises(AgfasError, match=r"4 of 5 keys are not in .* first being w, x, y"):
        store.rows([KEYS[0], "w", "x", "y", "z"])


def test_no_store_says_so(tmp_path):
    with pytest.raises(AgfasError, match="is not a store"):
        ShardStore.open(tmp_path)


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
    host = os.uname().nodename
    dead = f".00000.safetensors.{host}.{2**22 + 1}.00000000.tmp"
    namesake = f".00001.safetensors.{host}.{os.getpid()}.00000000.tmp"
    living = f".00002.safetensors.{host}.{os.getppid()}.00000000.tmp"
    far, old = ".00003.safetensors.elsewhere.7.00000000.tmp", ".00004.safetensors.elsewhere.7.00000000.tmp"
    for name in (dead, namesake, living, far, old):
        (store.folder / "shards" / name).touch()
    os.utime(store.folder / "shards" / old, (0, 0))
    new_store(tmp_path)
    assert {path.name for path in (store.folder / "shards").iterdir()} == {living, far}


def failing(operation, number):
    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("operation", ["write", "fsync"])
def test_full_disk_loses_nothing(tmp_path, monkeypatch, operation):
    store = new_store(tmp_path)
    store.write(0, arrays_of(range(5)))
    with monkeypatch.context() as patch:
        patch.setattr(durable.os, operation, failing(operation, errno.ENOSPC))
        with pytest.raises(AgfasError, match=r"disk full .* nothing already made is lost, free 1 MB and run again"):
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
        patch.setattr(durable.os, "write", half)
        with pytest.raises(AgfasError, match="disk full"):
            store.write(0, arrays_of(range(5)))
    assert new_store(tmp_path).unfinished() == [0, 1, 2, 3, 4]
    assert filled_store(tmp_path).verify_checksums() == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_folder_that_cannot_be_written(tmp_path, monkeypatch, number):
    store = filled_store(tmp_path)
    store.revoke(2)
    monkeypatch.setattr(durable.os, "open", failing("open", number))
    with pytest.raises(AgfasError, match=r"cannot be written .* choose another folder"):
        store.write(2, arrays_of(store.task_rows(2)))
    with pytest.raises(AgfasError, match="cannot be written"):
        ShardStore.create_or_open(tmp_path, {"another": 1}, KEYS, 5)


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "cues").touch()
    with pytest.raises(AgfasError, match="cannot be written"):
        new_store(tmp_path / "cues")


def test_deal_covers_everything_and_begins_with_the_own_share():
    tasks = [1, 2, 5, 7, 11, 12, 20]
    for world_size in (1, 2, 3, 8):
        shares = [deal(tasks, rank, world_size) for rank in range(world_size)]
        assert all(sorted(share) == tasks for share in shares)
        assert all(
            share[: len(tasks[rank::world_size])] == tasks[rank::world_size] for rank, share in enumerate(shares)
        )


def make_arrays(store):
    def make(task, names):
        for name in names:
            yield name, arrays_of(store.task_rows(task))

    return make


def test_run_tasks_makes_what_is_missing_in_each_store(tmp_path):
    stores = {t: ShardStore.create_or_open(tmp_path, {"t": t}, KEYS, 5) for t in (1, 2)}
    stores[1].write(3, arrays_of(stores[1].task_rows(3)))
    asked = []

    def make(task, names):
        asked.append((task, list(names)))
        return make_arrays(stores[1])(task, names)

    run_tasks(stores, make, show_progress=False)
    assert asked == [(0, [1, 2]), (1, [1, 2]), (2, [1, 2]), (3, [2]), (4, [1, 2])]
    assert all(store.status().complete for store in stores.values())
    run_tasks(stores, make, show_progress=False)
    assert len(asked) == 5


def test_run_tasks_refuses_a_rank_outside_the_world(tmp_path):
    store = new_store(tmp_path)
    with pytest.raises(AgfasError, match=r"rank must lie in 0 \.\. 1"):
        run_tasks({1: store}, make_arrays(store), rank=2, world_size=2, show_progress=False)


def test_interruption_leaves_a_clean_state(tmp_path):
    store = new_store(tmp_path)

    def make(task, names):
        if task == 2:
            raise KeyboardInterrupt
        return make_arrays(store)(task, names)

    with pytest.raises(KeyboardInterrupt):
        run_tasks({1: store}, make, show_progress=False)
    assert store.unfinished() == [2, 3, 4]
    assert sorted(shard_bytes(store.folder)) == ["00000.safetensors", "00001.safetensors"]
    run_tasks({1: store}, make_arrays(store), show_progress=False)
    assert store.verify_checksums() == []
    assert store.status().complete


def test_one_task_is_written_while_the_next_is_made(tmp_path):
    store, events = new_store(tmp_path), []

    def make(task, names):
        events.append(f"make {task}")
        if task == 1:
            # Task 0 is still being written: it waits for this line.
            begun.set()

        def arrays():
            if task == 0:
                assert begun.wait(10)
            events.append(f"write {task}")
            return arrays_of(store.task_rows(task))

        yield names[0], arrays

    begun = threading.Event()
    run_tasks({1: store}, make, show_progress=False)
    assert events[:3] == ["make 0", "make 1", "write 0"]
    # Never more than one behind: the third is not begun to be written before the second is.
    writes = [event for event in events if event.startswith("write")]
    assert writes == [f"write {task}" for task in range(5)]
    assert all(events.index(f"make {task + 2}") > events.index(f"write {task}") for task in range(3))
    assert store.status().complete


@pytest.mark.parametrize("failing_task", [0, 3, 4])
def test_a_failed_write_surfaces_and_gives_its_claims_back(tmp_path, failing_task):
    store = new_store(tmp_path)
    asked = []

    def make(task, names):
        asked.append(task)

        def arrays():
            if task == failing_task:
                raise AgfasError("no room")
            return arrays_of(store.task_rows(task))

        yield names[0], arrays

    with pytest.raises(AgfasError, match="no room"):
        run_tasks({1: store}, make, show_progress=False)
    assert asked == list(range(min(failing_task + 2, 5)))  # one task further at most
    assert store.unfinished() == list(range(failing_task, 5))
    run_tasks({1: store}, make_arrays(store), show_progress=False)
    assert store.verify_checksums() == []
    assert store.status().complete


def test_interruption_keeps_the_task_that_is_being_written(tmp_path):
    store = new_store(tmp_path)

    def make(task, names):
        if task == 2:
            raise KeyboardInterrupt

        def arrays():
            time.sleep(0.1)
            return arrays_of(store.task_rows(task))

        yield names[0], arrays

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_tasks({1: store}, make, show_progress=False)
    assert store.unfinished() == [2, 3, 4]
    assert threading.active_count() == threads


def test_a_manifest_line_that_names_another_tasks_file_is_not_trusted(tmp_path):
    store = filled_store(tmp_path)
    manifest = store.folder / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes().replace(b'"task":2', b'"task":0'))
    assert new_store(tmp_path).unfinished() == [0, 2]
