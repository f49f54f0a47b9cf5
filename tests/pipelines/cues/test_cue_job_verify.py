"""What a finished cue store is asked, and what verification finds in it."""

from __future__ import annotations

import pytest
from cue_job_parts import FACES, KEYS, WEIGHTS, Blur, make, shard_bytes, some_images, tiny_pipeline

from pipelines.cues.faces import ArrayFaces
from pipelines.cues.rounding import EQUAL
from pipelines.cues.settings import RestorationSettings
from pipelines.cues.shards import ShardStore
from pipelines.cues.sources import DfgSweep, OneOfSweep
from pipelines.cues.store import CueStore
from pipelines.cues.verify import verify_cues
from pipelines.errors import AgfasError


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def test_join_counts_and_names_what_is_missing(tmp_path):
    store = CueStore.open(make(tmp_path, Blur())[3])
    with pytest.raises(AgfasError, match=r"1 of 12 keys are not in .* first being elsewhere"):
        store.join([*KEYS, "elsewhere"])
    store.shards.revoke(1)
    missing = sorted(KEYS)[4:8]
    with pytest.raises(AgfasError, match=f"4 of 11 faces have no cue .* first being {', '.join(missing[:3])}"):
        store.join(sorted(KEYS))
    assert len(store.join(sorted(KEYS)[:4])) == 4
    status = store.shards.status()
    assert (status.finished_tasks, status.tasks, status.finished_rows, status.rows) == (2, 3, 7, 11)
    assert "7 of 11 rows, 2 of 3 shards" in str(status)


def test_other_stores_are_not_cue_stores(tmp_path):
    with pytest.raises(AgfasError, match="store of latents, not of cues"):
        CueStore(ShardStore.create_or_open(tmp_path, {"kind": "latents"}, KEYS, 4))


def test_verification_of_a_sound_store(tmp_path, pipeline):
    sweep = DfgSweep(pipeline, [201], WEIGHTS, settings=RestorationSettings(num_inference_steps=10))
    folder, source = make(tmp_path, sweep)[201], OneOfSweep(sweep, 201)
    check = verify_cues(folder, FACES, source, sample=5)
    assert check.ok
    assert check.identical == check.faces >= 5
    assert (check.shards, check.broken, check.levels) == (3, (), 0)
    other_shape = verify_cues(folder, FACES, source, sample=5, batch_size=3)
    assert other_shape.levels <= 1
    assert "wrong checksum" in str(check)


def test_verification_drops_a_broken_shard_and_the_next_run_mends_it(tmp_path):
    folder = make(tmp_path, Blur())[3]
    clean = shard_bytes(folder)
    path = folder / "shards" / "00002.safetensors"
    broken = bytearray(path.read_bytes())
    broken[len(broken) // 2] ^= 1
    path.write_bytes(broken)
    check = verify_cues(folder, FACES, Blur())
    assert not check.ok
    assert check.broken == (2,)
    assert "made again by the next run: shard 2" in str(check)
    assert ShardStore.open(folder).status().finished_tasks == 2
    make(tmp_path, Blur())
    assert shard_bytes(folder) == clean
    assert verify_cues(folder, FACES, Blur()).ok


def test_verification_of_a_store_without_a_shard(tmp_path):
    folder = make(tmp_path, Blur())[3]
    store = ShardStore.open(str(folder))
    for task in range(3):
        store.revoke(task)
    check = verify_cues(folder, FACES, Blur())
    assert check.ok
    assert (check.shards, check.faces, check.levels, check.share, check.allowed) == (0, 0, 0, 0.0, EQUAL)
    make(tmp_path, Blur())
    assert verify_cues(folder, FACES, Blur(), batch_size=1).faces == 3  # one batch of each shard


def test_verification_finds_other_pixels(tmp_path):
    folder = make(tmp_path, Blur())[3]
    check = verify_cues(folder, ArrayFaces(KEYS, some_images(seed=5)), Blur())
    assert not check.ok
    assert check.levels > 1
    assert "more than rounding explains" in str(check)


def test_verification_refuses_another_source_or_dataset(tmp_path):
    folder = make(tmp_path, Blur())[3]
    with pytest.raises(AgfasError, match="these differ: strength"):
        verify_cues(folder, FACES, Blur(0.25))
    with pytest.raises(AgfasError, match="made for 11 faces, other than the 3"):
        verify_cues(folder, ArrayFaces(KEYS[:3], FACES.images[:3]), Blur())
