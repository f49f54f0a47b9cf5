"""The shard store: what it writes and how it is read."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file
from shard_parts import IDENTITY, KEYS, arrays_of, filled_store, new_store

from pipelines import files
from pipelines.cues.layout import encode, map_arrays
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError
from pipelines.fingerprint import fingerprint


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
    assert not view[:].flags.writeable
    assert not view[:].flags.owndata
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
    files.write_whole(path, encode(arrays))
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
        (["a", "b", "a"], 5, "1 of 3 are repeated"),
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
    with pytest.raises(AgfasError, match="22 keys, other than the 21"):
        ShardStore.create_or_open(tmp_path, IDENTITY, KEYS[1:], 5)


def test_absent_keys_are_counted_and_named(tmp_path):
    store = filled_store(tmp_path)
    with pytest.raises(AgfasError, match=r"4 of 5 keys are not in .* first being w, x, y"):
        store.rows([KEYS[0], "w", "x", "y", "z"])


def test_no_store_says_so(tmp_path):
    with pytest.raises(AgfasError, match="is not a store"):
        ShardStore.open(tmp_path)


@pytest.mark.parametrize("names", [("a",), ("picture", "mean"), ("a", "b", "c", "a much longer name of an array")])
def test_arrays_lie_aligned_in_the_file(tmp_path, names):
    """The first at a multiple of 64 bytes, each at one of its items' size: read as they lie, without a copy."""
    kinds = ("uint8", "float32", "float64", "int16")
    arrays = {name: np.arange(7).astype(kind) for name, kind in zip(names, kinds, strict=False)}
    path = tmp_path / "x.safetensors"
    files.write_whole(path, encode(arrays))
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert (8 + length) % 64 == 0
    assert 8 + length < 64 * (2 + 2 * len(arrays))  # padded by less than 64
    header = json.loads(path.read_bytes()[8 : 8 + length])
    for name, array in arrays.items():
        assert header[name]["data_offsets"][0] % array.itemsize == 0
        assert np.array_equal(map_arrays(path)[name], array)


def test_a_shard_that_another_process_made_again_is_read_anew(tmp_path):
    store, other = filled_store(tmp_path), ShardStore.open(next(tmp_path.iterdir()))
    assert store.read("mean", [7]) == np.float32(7) / 3
    other.revoke(1)
    store.refresh()
    assert store.unfinished() == [1]
    assert store.missing(np.array([3, 7, 9, 12])).tolist() == [1, 2]
    made = arrays_of(range(5, 10))
    other.write(1, {**made, "mean": made["mean"] + 1})
    store.refresh()
    assert store.read("mean", [7, 3]).tolist() == [np.float32(7) / 3 + 1, 1.0]
    assert store.finished_rows == 22
