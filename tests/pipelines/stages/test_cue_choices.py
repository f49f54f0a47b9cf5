"""Which cues are made and by whom, by hand: t, tasks of a cluster, and what is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_experiments import one_of

from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.workspace import Workspace
from pipelines.stages import (
    cues,
    ray_cues,
)


@pytest.mark.parametrize(
    ("name", "moments"), [("dfg", (0, 21, 41)), ("anoddpm", (21, 41)), ("memae", (0,)), ("deep_svdd", (0,))]
)
def test_the_generator_makes_its_t_of_0_too(name, moments):
    assert cues.moments_of(one_of(name), [21, 41]) == moments
    assert cues._named(one_of(name), 21) == ("t = 21" if len(moments) > 1 else name)


@pytest.mark.parametrize(
    ("text", "found"), [(None, [801]), ("41", [41]), (" 401 ,21,401", [21, 401]), ("999999999", [999_999_999])]
)
def test_several_t_are_whole_numbers_with_commas(text, found):
    assert cues.parse_timesteps(text, Experiment()) == found


@pytest.mark.parametrize("text", ["0", "-1", "21,", "", "a", "1.5", "21 41", "1234567890", "²"])
def test_other_t_are_refused(text):
    with pytest.raises(
        AgfasError, match=r"--timesteps takes whole numbers above 0 with commas between, such as 201,401"
    ):
        cues.parse_timesteps(text, Experiment())


def test_a_generator_without_t_takes_none():
    assert cues.parse_timesteps(None, one_of("memae")) == [801]
    with pytest.raises(AgfasError, match=r"--timesteps was given, but memae has no t\. Leave the option out\."):
        cues.parse_timesteps("21", one_of("memae"))


def test_the_state_of_cues_is_said_without_making_anything(small, monkeypatch, capsys):
    cues.print_status(small, [41])
    with pytest.raises(AgfasError, match=r"No faces and no cues yet\. Run `agfas cues`"):
        cues.verify(small, [41])
    monkeypatch.setattr(Workspace, "faces", property(lambda self: small.root))
    small.root.mkdir()
    monkeypatch.setattr(Workspace, "has_generator", lambda self: False)
    monkeypatch.setattr(Workspace, "generator_state", lambda self: "generator not trained: x")
    cues.print_status(small, [41])
    said = ["nothing made yet, nor any faces", "nothing made yet; generator not trained: x"]
    assert capsys.readouterr().out.splitlines() == said
    assert not any(small.root.iterdir())


class Stub:
    """A cue job whose makers note what they are asked."""

    folders = {0: Path("zero"), 41: Path("one")}  # noqa: RUF012

    def __init__(self, left=((1, 3), (2,))) -> None:
        self.ran: list = []
        self.makers = [
            SimpleNamespace(
                unfinished=lambda tasks=tasks: list(tasks),
                run=lambda number=number, **how: self.ran.append((number, how)),
            )
            for number, tasks in enumerate(left)
        ]


class Ray:
    """As much of Ray as the job asks for."""

    def __init__(self, gpus=0.0, answers=None) -> None:
        self.seen: list = []
        self.gpus, self.answers, self.begun = gpus, answers, False
        self.data = SimpleNamespace(from_items=self.from_items, ActorPoolStrategy=lambda size: f"pool of {size}")

    def from_items(self, items, override_num_blocks):
        self.seen.append((items, override_num_blocks))
        return self

    def map_batches(self, actor, **how):
        self.seen.append((actor, how))
        return self

    def take_all(self):
        return self.answers if self.answers is not None else [{"mistake": ""}]

    def is_initialized(self):
        return self.begun

    def init(self):
        self.begun = True

    def cluster_resources(self):
        return {"GPU": self.gpus} if self.gpus else {}


@pytest.mark.parametrize(("gpus", "each"), [(0.0, 0), (0.5, 0), (1.0, 1), (8.0, 1)])
def test_tasks_are_dealt_to_actors_of_a_cluster(monkeypatch, gpus, each):
    ray, job = Ray(gpus), Stub()
    monkeypatch.setattr(ray_cues, "_ray", lambda: ray)
    opened = lambda: job  # noqa: E731
    assert ray_cues.run_on_ray(opened, 8) == Stub.folders
    tasks = [{"maker": 0, "task": 1}, {"maker": 0, "task": 3}, {"maker": 1, "task": 2}]
    how = {
        "batch_size": 1, "compute": "pool of 3", "fn_constructor_args": (opened,), "num_cpus": 1, "num_gpus": each,
        "max_restarts": -1,
    }  # fmt: skip
    assert ray.seen == [(tasks, 3), (ray_cues.TaskMaker, how)]
    assert ray.begun
    assert ray_cues.run_on_ray(opened, 2, cpus_per_worker=4, gpus_per_worker=0.5) == Stub.folders
    assert ray.seen[3][1] == {**how, "compute": "pool of 2", "num_cpus": 4, "num_gpus": 0.5}
    ray.seen.clear()
    assert ray_cues.run_on_ray(lambda: Stub(((), ())), 1) == Stub.folders
    assert ray.seen == []


def test_mistakes_of_actors_are_the_jobs(monkeypatch):
    monkeypatch.setattr(ray_cues, "_ray", lambda: Ray(answers=[{"mistake": ""}, {"mistake": "no room"}]))
    with pytest.raises(AgfasError, match=r"^no room$"):
        ray_cues.run_on_ray(Stub, 1)
    with pytest.raises(AgfasError, match=r"workers must be at least 1, not 0\."):
        ray_cues.run_on_ray(Stub, 0)


def test_an_actor_makes_the_tasks_that_it_receives():
    job = Stub()
    actor = ray_cues.TaskMaker(lambda: job)
    answer = actor({"maker": np.array([1, 0]), "task": np.array([2, 3])})
    assert job.ran == [(1, {"only": [2], "show_progress": False}), (0, {"only": [3], "show_progress": False})]
    assert answer["mistake"].tolist() == ["", ""]

    def fails(**_):
        raise AgfasError("no room")

    job.makers[0].run = fails
    assert actor({"maker": [0], "task": [1]})["mistake"].tolist() == ["no room"]


def test_the_command_line_of_the_cluster(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("seed: 3\n")
    ran, made = [], []
    monkeypatch.setattr("pipelines.artefacts.faces.make_faces", made.append)
    monkeypatch.setattr(ray_cues, "run_on_ray", lambda *given, **more: ran.append((given, more)) or Stub.folders)
    words = [
        "--timesteps",
        "21,41",
        "--whole-dataset",
        "--workers",
        "8",
        "--cpus-per-worker",
        "2",
        "--gpus-per-worker",
        "0.5",
    ]
    ray_cues.main(["c.yaml", "name=x", *words])
    ray_cues.main(["c.yaml"])
    (opened, workers), more = ran[0]
    assert (workers, more) == (8, {"cpus_per_worker": 2.0, "gpus_per_worker": 0.5})
    assert opened.func is ray_cues.open_experiment
    experiment, timesteps, all_faces = opened.args
    assert (experiment.seed, experiment.root, timesteps, all_faces) == (3, tmp_path / "runs" / "x", [21, 41], True)
    (opened, workers), more = ran[1]
    assert (workers, more) == (1, {"cpus_per_worker": 1, "gpus_per_worker": None})
    assert opened.args[1:] == ([801], False)
    assert len(made) == 2
    assert capsys.readouterr().out == "t = 0: zero\nt = 41: one\n" * 2
