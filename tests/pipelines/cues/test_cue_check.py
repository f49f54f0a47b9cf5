"""What a verification says, which faces it draws, and where its bounds lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shard_parts import arrays_of, filled_store

from pipelines.cues.rounding import BFLOAT16, EQUAL, TF32
from pipelines.cues.shards import ShardStore
from pipelines.cues.store import CueStore, JoinedCues, cue_arrays, residual_statistics
from pipelines.cues.verify import CueCheck, _Compared, _sampled


def check(**changes) -> CueCheck:
    known = {
        "folder": Path("cues/0123"), "shards": 7, "broken": (), "faces": 9, "identical": 9, "wrong": (), "levels": 0,
        "share": 0.0, "allowed": EQUAL,
    }  # fmt: skip
    return CueCheck(**{**known, **changes})


def test_a_check_in_words():
    sound = ["0123: 7 shards, 0 with a wrong checksum", "9 faces made again, 9 with equal bytes"]
    assert str(check()).splitlines() == sound
    assert check().ok
    broken = check(broken=(1, 2, 3, 4, 5, 6))
    assert str(broken).splitlines() == [
        "0123: 7 shards, 6 with a wrong checksum",
        "revoked, made again by the next run: shard 1, 2, 3, 4, 5",
        sound[1],
    ]
    assert not broken.ok
    differs = check(identical=4, levels=2, share=0.0123, allowed=TF32, wrong=("b", "a"))
    assert str(differs).splitlines() == [
        sound[0],
        "9 faces made again, 4 with equal bytes",
        f"differences up to 2 grey levels, on up to 1.23% of a face's values; allowed for {TF32}",
        "2 faces differ by more than rounding explains, the first b",
    ]
    assert not differs.ok


@pytest.mark.parametrize(
    ("levels", "share", "allowed"),
    [(2, 0.15, True), (3, 0.15, False), (2, 0.1501, False), (0, 0.0, True)],
)
def test_a_face_may_differ_up_to_both_bounds(levels, share, allowed):
    assert _Compared("a", levels, share, BFLOAT16).is_allowed is allowed


def test_whole_batches_of_different_shards_are_drawn(tmp_path):
    store = filled_store(tmp_path)  # 22 rows in shards of 5
    for sample, count in ((1, 1), (5, 1), (6, 2), (16, 4), (99, 5)):
        drawn = _sampled(store, sample, 0, None)
        assert len(drawn) in (count, count + 1)
        assert sum(len(rows) for _, rows, _ in drawn) >= min(sample, 22)
        assert sum(len(rows) for _, rows, _ in drawn[:-1]) < sample
    assert sorted(task for task, _, _ in _sampled(store, 99, 0, None)) == [0, 1, 2, 3, 4]
    assert {shape for _, _, shape in _sampled(store, 99, 0, None)} == {5}  # nothing recorded: a shard at a time
    for task, rows, shape in _sampled(store, 99, 3, 2):
        assert shape == 2
        assert rows in [
            range(start, min(start + 2, store.task_rows(task).stop)) for start in store.task_rows(task)[::2]
        ]
    assert _sampled(store, 9, 0, 2) == _sampled(store, 9, 0, 2) != _sampled(store, 9, 1, 2)
    store.revoke(3)
    store.write(3, arrays_of(store.task_rows(3)), {"batch_size": 4})
    store.revoke(0)
    assert {task: shape for task, _, shape in _sampled(store, 99, 0, None)} == {1: 5, 2: 5, 3: 4, 4: 5}


def test_statistics_and_joined_cues_of_a_store(tmp_path):
    faces, restored = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 6, 3), dtype=np.uint8)
    differences = (faces.astype(np.float64) - restored).reshape(5, -1) / 127.5
    mean, deviation = residual_statistics(faces, restored)
    assert (mean.dtype, deviation.dtype) == (np.float32, np.float32)
    assert mean == pytest.approx(differences.mean(axis=1), abs=1e-7)
    assert deviation == pytest.approx(differences.std(axis=1, ddof=1), abs=1e-7)
    identity = {"kind": "cues", "image_size": [4, 6]}
    shards = ShardStore.create_or_open(tmp_path, identity, list("abcde"), 2)
    for task in range(2):
        rows = list(shards.task_rows(task))
        shards.write(task, cue_arrays(faces[rows], restored[rows]))
    store = CueStore.open(shards.folder)
    assert (len(store), store.image_size) == (5, (4, 6))
    joined = store.join(["d", "x", "a"], np.array([True, False, True]))
    assert isinstance(joined, JoinedCues)
    assert (len(joined), joined.shape, joined.rows.tolist()) == (3, (3, 4, 6, 3), [3, -1, 0])
    assert joined.present.tolist() == [True, False, True]
    assert np.array_equal(joined[0], restored[3])
    assert np.array_equal(joined[np.array([2, 0])], restored[[0, 3]])
    with pytest.raises(IndexError, match="outside the protocol's domains"):
        joined[1]
    both = store.join(["b", "a"])
    assert both.residual_mean().tolist() == mean[[1, 0]].tolist()
    assert both.residual_std().tolist() == deviation[[1, 0]].tolist()
    assert np.array_equal(both[:], restored[[1, 0]])
    assert np.array_equal(store.reconstructions(["c", "a"]), restored[[2, 0]])
    assert np.array_equal(store.reconstructions([2, 0]), restored[[2, 0]])
    assert store.reconstructions([]).shape == (0, 4, 6, 3)
