"""The cue job over Ray: the same tasks, the same bytes."""

from __future__ import annotations

import pickle
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_experiments import chain_settings

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
    monkeypatch.setattr(ray_cues, "_ray", lambda: None)
    with pytest.raises(AgfasError, match="workers must be at least 1, not 0"):
        run_on_ray(partial(open_job, tmp_path), 0)
    # A finished job asks nothing of Ray.
    CueJob.open(faces(), Dim(), tmp_path, **SETTINGS).run(show_progress=False)
    assert set(run_on_ray(partial(open_job, tmp_path), 2)) == {201, 401}


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray")
    stages, rooms, _, repository = Path(__file__).parents[:4]
    here = {"env_vars": {"PYTHONPATH": f"{stages}:{rooms}:{repository}"}}
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


SOURCE = """
class Half:
    def fingerprint(self):
        return {}

    def __call__(self, image, keys):
        return image / 2
"""


class FakeRay:
    """Runs the actors in this process, but as Ray does: from a folder of its own, with what travels in a pickle."""

    ActorPoolStrategy = dict

    def __init__(self, go_there):
        self.data, self.go_there, self.gpus, self.rows = self, go_there, None, []

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": 4.0, "GPU": 2.0}

    def from_items(self, items, override_num_blocks):
        self.rows = items
        return self

    def map_batches(self, actor, *, fn_constructor_args, num_gpus, **_):
        self.gpus, arguments = num_gpus, pickle.dumps(fn_constructor_args)
        self.go_there()
        made = actor(*pickle.loads(arguments))
        batches = [{name: np.array([value]) for name, value in row.items()} for row in self.rows]
        self.rows = [{"mistake": made(batch)["mistake"][0]} for batch in batches]
        return self

    def take_all(self):
        return self.rows


def test_actors_elsewhere_find_every_file_and_make_none(tmp_path, monkeypatch, capsys):
    (tmp_path / "halves_of_mine.py").write_text(SOURCE)
    (away := tmp_path / "elsewhere").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = chain_settings(Path("out"))
    settings["cue"] = {"source": "halves_of_mine:Half", "batch_size": 8, "shard_size": 16}
    Path("experiment.yaml").write_text(yaml.safe_dump(settings))
    ray = FakeRay(lambda: monkeypatch.chdir(away))
    monkeypatch.setattr(ray_cues, "_ray", lambda: ray)
    ray_cues.main(["experiment.yaml", "output=there"])
    assert len(ray.rows) == 2
    assert ray.gpus == 1
    (store,) = (tmp_path / "there" / "cues").iterdir()
    assert ShardStore.open(store).unfinished() == []
    assert str(store) in capsys.readouterr().out
    assert list(away.iterdir()) == []
