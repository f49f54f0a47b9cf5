"""The cue job over Ray: the same tasks, the same bytes."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipelines.cues.faces import ArrayFaces
from pipelines.cues.job import CueJob
from pipelines.cues.shards import ShardStore
from pipelines.errors import AgfasError
from pipelines.stages import ray_cues
from pipelines.stages.ray_cues import TaskMaker, run_on_ray
from scripts.torture.checks import checksums, listings

COUNT = 22
KEYS = [f"d/s{i // 4}/v{i // 2}/{i:03d}" for i in range(COUNT)]
SETTINGS = {"dataset_fingerprint": "drawn", "batch_size": 2, "shard_size": 4}


class Dim:
    """Faces at two strengths; one face may be more than it can bear."""

    timesteps = (201, 401)

    def __init__(self, broken=""):
        self.broken = broken

    def fingerprint(self, timestep):
        return {"name": "dim", "timestep": timestep}

    def restore(self, image, keys, timesteps):
        if self.broken in keys:
            raise AgfasError(f"{self.broken} is too much")
        return {t: image * (1 - t / 1000) for t in timesteps}


def faces():
    return ArrayFaces(KEYS, np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8))


def open_job(root, broken=""):
    return CueJob.open(faces(), Dim(broken), root, **SETTINGS)


def test_an_actor_makes_the_tasks_that_it_is_given(tmp_path):
    actor = TaskMaker(partial(open_job, tmp_path, KEYS[9]))
    answer = actor({"maker": np.array([0, 0, 0]), "task": np.array([4, 2, 0])})
    assert list(answer["mistake"]) == ["", f"{KEYS[9]} is too much", ""]
    assert open_job(tmp_path).makers[0].unfinished() == [1, 2, 3, 5]


def test_mistakes_in_the_arguments(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray.data", None)
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(AgfasError, match=r"pip install 'agfas\[ray\]'"):
            run_on_ray(partial(open_job, tmp_path), 1)
    monkeypatch.setattr(ray_cues, "_ray_data", lambda: None)
    with pytest.raises(AgfasError, match="workers must be at least 1, not 0"):
        run_on_ray(partial(open_job, tmp_path), 0)
    # A finished job asks nothing of Ray.
    CueJob.open(faces(), Dim(), tmp_path, **SETTINGS).run(show_progress=False)
    assert set(run_on_ray(partial(open_job, tmp_path), 2)) == {201, 401}


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray")
    here = {"env_vars": {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[3]}"}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=here)
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_the_local_job(tmp_path, cluster):
    local, far = tmp_path / "local", tmp_path / "far"
    folders = CueJob.open(faces(), Dim(), local, **SETTINGS).run(show_progress=False)
    begun = open_job(far)
    begun.makers[0].run(only=[1, 3], show_progress=False)
    assert {t: folder.name for t, folder in run_on_ray(partial(open_job, far), 2).items()} == {
        t: folder.name for t, folder in folders.items()
    }
    assert checksums(far) == checksums(local)
    for name in (folder.name for folder in folders.values()):
        assert ShardStore.open(far / name).unfinished() == []
        assert listings(far / name) == dict.fromkeys(range(6), 1)  # no finished task was made again
    with pytest.raises(AgfasError, match="is too much"):
        run_on_ray(partial(open_job, tmp_path / "broken", KEYS[9]), 2)
    assert open_job(tmp_path / "broken").makers[0].unfinished() == [2]
