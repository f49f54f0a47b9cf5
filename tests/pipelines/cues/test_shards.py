"""The shard store: what it writes and how it is read."""

from __future__ import annotations

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
