"""What stages choose and say, by hand: nothing is trained, restored or judged here."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_experiments import chain_settings
from training_parts import make_faces

from oanet.detectors import build_detector
from pipelines import ending
from pipelines.data.protocols import Fold
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.file import build_experiment, with_overrides
from pipelines.experiment.plan import Planned, expand
from pipelines.experiment.workspace import Workspace
from pipelines.stages import (
    chain,
    cues,
    demo,
    detect,
    detector_batches,
    evaluate,
    ray_cues,
    sweep,
    train_baseline,
    train_detector,
    train_identity,
)
from pipelines.training.settings import EarlyStoppingSettings, PlateauSettings


@pytest.fixture
def small(tmp_path) -> Experiment:
    return build_experiment(chain_settings(tmp_path / "out"), "the test")


def one_of(name: str, **more) -> Experiment:
    return build_experiment({"generator": {"name": name}, "cue": {"source": name}, **more}, "the test")


# Sweeps.


@pytest.fixture
def stubbed(monkeypatch) -> list[tuple]:
    """A sweep of which nothing is made; what would have been is noted."""
    seen: list[tuple] = []

    def note(place: str, name: str, answer=None) -> None:
        monkeypatch.setattr(place, lambda *given: seen.append((name, *given)) or answer)

    note("pipelines.stages.train_detector.check_options", "options")
    note("pipelines.stages.train_dfg.check_options", "generator's options")
    note("pipelines.stages.train_detector.check_faces", "faces")
    monkeypatch.setattr(sweep, "make_faces", lambda experiment: f"faces of {experiment.data.size}")
    monkeypatch.setattr(sweep, "record", lambda root, planned: seen.append(("recorded", root, len(planned))))
    monkeypatch.setattr(sweep.chain, "prepare_cues", lambda found, faces: seen.append(("cues", len(found), faces)))
    monkeypatch.setattr(sweep, "_unjudged", lambda planned: planned[1:])
    for name in ("_side_by_side", "_dealt", "_one_after_another"):
        monkeypatch.setattr(sweep, name, lambda *given, name=name: seen.append((name, len(given[0]), *given[1:])))
    monkeypatch.setattr(Workspace, "needs_generator", lambda self: self.experiment.seed == 1)
    return seen


@pytest.mark.parametrize(
    ("processes", "jobs", "how"),
    [
        (1, 1, ("_one_after_another", 3)),
        (1, 2, ("_side_by_side", 2, 2)),
        (2, 1, ("_dealt", 2)),
        (2, 2, ("_dealt", 2)),
        (3, 1, ("_one_after_another", 3)),
        (3, 2, ("_one_after_another", 3)),
    ],
)
def test_a_sweep_is_shared_as_jobs_and_processes_allow(small, stubbed, monkeypatch, capsys, processes, jobs, how):
    """Two of three experiments have no result."""
    monkeypatch.setattr(sweep, "rank_and_world", lambda: (0, processes))
    planned = expand(with_overrides(small, {"sweep": {"axes": {"seed": [0, 1, 2]}}}))
    sweep.run_planned(planned, jobs)
    found = [item.experiment for item in planned]
    checks = [("options", found[0]), ("options", found[1]), ("generator's options", found[1]), ("options", found[2])]
    faces = [("faces", one, "faces of 32") for one in found]
    assert stubbed == [*checks, *faces, ("recorded", small.root, 3), ("cues", 3, "faces of 32"), how]
    ignored = f"--jobs is ignored: each of the {processes} launched processes takes experiments of its own.\n"
    assert capsys.readouterr().out == (ignored if (processes, jobs) == (2, 2) else "")


def test_only_the_main_process_records_and_reports(small, stubbed, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "is_main", lambda: False)
    monkeypatch.setattr("pipelines.stages.report.run", lambda root: stubbed.append(("report", root)) or "the page")
    monkeypatch.setattr("pipelines.report.summary.summary", lambda planned: f"{len(planned)} rows")
    sweep.run(small)
    assert "recorded" not in [call[0] for call in stubbed]
    monkeypatch.setattr(sweep, "is_main", lambda: True)
    sweep.run(small)
    assert stubbed[-1] == ("report", small.root)
    assert capsys.readouterr().out == "\n1 rows\n\nReport: the page\n"


def test_an_experiment_that_is_planned_twice_is_trained_once(small, monkeypatch):
    monkeypatch.setattr(Workspace, "detector", lambda self: Path(f"seed {self.experiment.seed % 2}"))
    monkeypatch.setattr(sweep, "_is_judged", lambda item: item.experiment.seed == 1)
    planned = expand(with_overrides(small, {"sweep": {"axes": {"seed": [0, 1, 2, 3]}}}))
    assert [item.experiment.seed for item in sweep._unjudged(planned)] == [2, 3]


def test_experiments_one_after_another_are_counted(small, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(chain, "train_and_judge", done.append)
    planned = [Planned("a", {}, small), Planned("b", {"seed": 1}, small)]
    sweep._one_after_another(planned)
    assert done == [small, small]
    assert capsys.readouterr().out == "[1/2] a\n[2/2] b (seed=1)\n"


class Pool:
    """Workers that do what they are given here."""

    def __init__(self, count, context, begin, given):
        self.opened, self.shut = (count, begin, given), []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def shutdown(self, **how):
        self.shut.append(how)


def test_workers_take_gpus_in_turn_and_end_with_an_error(monkeypatch):
    made, ended = [], []
    context = SimpleNamespace(SimpleQueue=lambda: SimpleNamespace(put=lambda gpu: made.append(gpu)))
    monkeypatch.setattr(sweep, "get_context", lambda kind: context if kind == "spawn" else None)
    monkeypatch.setattr(sweep, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(sweep, "active_children", lambda: [SimpleNamespace(terminate=lambda: ended.append(1))] * 2)
    with sweep._workers(["4", "7"], 3, 5) as pool:
        pass
    assert made == ["4", "7", "4"]
    count, begin, (_, threads_each) = pool.opened
    assert (count, begin, threads_each) == (3, sweep._begin_worker, 5)
    assert pool.shut == ended == []
    with pytest.raises(ZeroDivisionError), sweep._workers([None], 1, 1) as pool:
        raise ZeroDivisionError
    assert pool.shut == [{"wait": False, "cancel_futures": True}]
    assert ended == [1, 1]


@pytest.mark.parametrize("gpu", [None, "3"])
def test_a_worker_trains_alone_on_its_gpu_and_ends_with_its_parent(monkeypatch, gpu):
    seen = []
    monkeypatch.setattr(sweep, "_for_life", ExitStack())
    monkeypatch.setattr(sweep, "stand_alone", lambda: seen.append("alone"))
    monkeypatch.setattr(sweep, "watch_signals", lambda: seen.append("watched"))
    monkeypatch.setattr(sweep._for_life, "enter_context", lambda block: seen.append("for life"))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: seen.append(count))
    monkeypatch.setattr(sweep.progress, "hide_bars", lambda: seen.append("hidden"))
    monkeypatch.setattr(sweep, "Thread", lambda target, args, daemon: SimpleNamespace(
        start=lambda: seen.append((target, args, daemon))
    ))  # fmt: skip
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    sweep._begin_worker(SimpleNamespace(get=lambda: gpu), 5)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (gpu or "0,1")
    leaves = (sweep._leave_with_parent, (os.getppid(),), True)
    assert seen == ["alone", "watched", "for life", 5, "hidden", leaves]


def test_a_worker_of_a_killed_parent_leaves(monkeypatch):
    parents, slept = iter([7, 7, 1]), []

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(sweep.time, "sleep", slept.append)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as left:
        sweep._leave_with_parent(7)
    assert left.value.code == 1
    assert slept == [1, 1]


def test_an_experiment_is_not_begun_after_a_signal(small, monkeypatch):
    begun = []
    monkeypatch.setattr(chain, "train_and_judge", begun.append)
    monkeypatch.setattr(ending, "_watch", ending._Watch())
    sweep._train_alone(small)
    assert begun == [small]
    ending._watch.code = 75
    with pytest.raises(ending.Stopped):
        sweep._train_alone(small)
    assert begun == [small]


def test_steps_are_scaled_to_the_nearest_whole_and_at_least_what_is_looked_at(small):
    given = {
        "generator.loop.steps": 9, "train.steps": 40, "train.evaluations": 4, "train.warmup": 10,
        "identity.loop.steps": 8, "identity.loop.warmup": 5,
    }  # fmt: skip
    base = with_overrides(small, given)
    assert sweep.scaled(base, 15.0) is base
    found = sweep.scaled(base, 5.0)
    assert (found.generator.loop.steps, found.train.steps, found.train.warmup) == (3, 13, 3)
    assert (found.identity.loop.steps, found.identity.loop.warmup) == (3, 2)
    found = sweep.scaled(with_overrides(base, {"identity": {"name": "none"}}), 0.1)
    assert (found.generator.loop.steps, found.train.steps, found.train.warmup) == (1, 4, 0)
    with pytest.raises(AgfasError, match=r"--minutes must be above 0, not -1\."):
        sweep.scaled(base, -1)


# Cues.


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


# Batches and the watched loss.


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"schedule": "plateau", "plateau": {"patience": 3}, "look_every": 7}, (7, PlateauSettings(patience=3), None)),
        ({"early_stopping": {"patience": 2}}, (50, None, EarlyStoppingSettings(patience=2))),
    ],
)
def test_a_training_is_watched_if_its_settings_ask_for_it(monkeypatch, changes, expected):
    seen = []
    monkeypatch.setattr(detector_batches, "dev_loss", lambda *given: seen.append(given) or 0.5)
    experiment = build_experiment({"train": changes, "evaluate": {"batch_size": 17}}, "the test")
    watch = detector_batches.make_watch(experiment, "faces", "reader", "rows")
    if expected is None:
        assert watch is None
        return
    assert (watch.every, watch.plateau, watch.early_stopping) == expected
    assert watch.measure(SimpleNamespace(detector="detector")) == 0.5
    assert seen == [("detector", "faces", "reader", "rows", 17)]


def test_the_watched_loss_is_the_mean_cross_entropy_of_the_faces(monkeypatch):
    faces, rows = make_faces(), np.array([3, 5, 8, 13, 21])
    logits = torch.randn(48, 2, generator=torch.Generator().manual_seed(0))
    asked = []

    def answers(detector, given, reader, part, size):
        asked.append((detector, reader, part.tolist(), size))
        yield part, SimpleNamespace(logits=logits[part])

    monkeypatch.setattr(detector_batches, "answers", answers)
    found = detector_batches.dev_loss("a detector", faces, "a reader", rows, 2)
    labels = faces.labels[rows]
    expected = -torch.log_softmax(logits[rows].double(), 1)[torch.arange(5), torch.from_numpy(labels)].mean().item()
    assert found == pytest.approx(expected, rel=1e-6)
    assert asked == [("a detector", "a reader", part, 2) for part in ([3, 5], [8, 13], [21])]


@pytest.mark.parametrize(
    ("per_cell", "processes", "refused"), [(2, 8, False), (2, 9, True), (1, 4, False), (1, 5, True)]
)
def test_a_batch_must_have_a_face_for_every_process(small, monkeypatch, per_cell, processes, refused):
    """Two labels and two domains."""
    monkeypatch.setattr(detector_batches, "rank_and_world", lambda: (0, processes))
    fold = Fold("to_c", ("a", "b"), ("a", "b"), ("c",))
    experiment = with_overrides(small, {"train.per_cell": per_cell})
    if refused:
        with pytest.raises(AgfasError, match=rf"2 labels x 2 domains x train.per_cell = {4 * per_cell} leaves some of"):
            detector_batches.check_shares(experiment, fold)
    else:
        detector_batches.check_shares(experiment, fold)
    published = experiment.model_copy(update={"train": experiment.train.model_copy(update={"steps": 0})})
    detector_batches.check_shares(published, fold)


@pytest.mark.parametrize(
    ("part", "label"), [("identity", "identity.loop.batch_size"), ("generator", "generator.loop.batch_size")]
)
def test_loops_of_other_models_need_a_face_for_every_process_too(small, monkeypatch, part, label):
    monkeypatch.setattr(chain, "rank_and_world", lambda: (0, 4))
    chain._check_shares_of_loops(small)
    small = with_overrides(small, {"identity.loop.batch_size": 16, "generator.loop.batch_size": 16})
    tight = with_overrides(small, {f"{part}.loop.batch_size": 4, f"{part}.loop.gradient_accumulation": 2})
    with pytest.raises(AgfasError, match=rf"^{label} = 4 in 2 micro-batches leaves some of 4 processes"):
        chain._check_shares_of_loops(tight)
    chain._check_shares_of_loops(with_overrides(tight, {"identity": {"name": "none"}}) if part == "identity" else small)


def test_patches_are_those_of_a_square_grid():
    vit = build_detector(
        "image_only",
        preset="tiny",
        image_size=32,
        backbone_options={"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
    )
    assert detector_batches.patch_side(vit) == 4
    assert detector_batches.patch_side(build_detector("livenessnet", image_size=32, width=2, hidden=4)) is None


# The chain.


def test_a_sweep_is_no_single_experiment(small):
    with pytest.raises(AgfasError, match=r"has a sweep: block\. Run it with `agfas sweep`\."):
        chain.run(with_overrides(small, {"sweep": {}}), "train")


@pytest.mark.parametrize("last", ["train-dfg", "train", "evaluate"])
@pytest.mark.parametrize("finished", [True, False])
def test_the_chain_ends_where_it_is_asked(small, monkeypatch, capsys, last, finished):
    seen = []
    monkeypatch.setattr(chain, "is_evaluated", lambda experiment: finished)
    monkeypatch.setattr(chain, "_made", lambda experiment, until: seen.append(until) or "faces")
    monkeypatch.setattr(chain, "record", lambda root, planned: seen.append(("recorded", root, len(planned))))
    monkeypatch.setattr("pipelines.stages.evaluate.run", lambda experiment, faces: seen.append(("judged", faces)))
    monkeypatch.setattr("pipelines.report.summary.summary", lambda planned: f"{len(planned)} rows")
    monkeypatch.setattr(Workspace, "generator", lambda self: "the generator")
    monkeypatch.setattr(Workspace, "detector", lambda self: "the detectors")
    chain.run(small, last)
    made = [] if finished and last == "evaluate" else [last]
    recorded = [("recorded", small.root, 1)] if last != "train-dfg" else []
    judged = [("judged", None if finished else "faces")] if last == "evaluate" else []
    assert seen == [*made, *recorded, *judged]
    assert capsys.readouterr().out == {
        "train-dfg": "Generator: the generator\n",
        "train": "Detectors: the detectors\n",
        "evaluate": "\n1 rows\n\nDetectors: the detectors\n",
    }[last]  # fmt: skip


@pytest.mark.parametrize("finished", [True, False])
def test_nothing_is_loaded_for_what_is_judged(small, monkeypatch, finished):
    seen = []
    monkeypatch.setattr(chain, "is_evaluated", lambda experiment: finished)
    monkeypatch.setattr(chain, "make_faces", lambda experiment: "faces")
    monkeypatch.setattr(
        "pipelines.stages.train_detector.run", lambda experiment, faces: seen.append(("trained", faces))
    )
    monkeypatch.setattr("pipelines.stages.evaluate.run", lambda experiment, faces: seen.append(("judged", faces)))
    chain.train_and_judge(small)
    assert seen == ([("judged", None)] if finished else [("trained", "faces"), ("judged", "faces")])


def test_generators_are_trained_once_and_their_t_restored_together(small, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "pipelines.stages.train_dfg.run", lambda experiment, faces: seen.append(("trained", experiment.seed))
    )
    monkeypatch.setattr(chain, "free_models", lambda: seen.append("freed"))
    monkeypatch.setattr(
        "pipelines.stages.cues.run", lambda experiment, faces, at: seen.append((experiment.seed, faces, at))
    )
    monkeypatch.setattr(Workspace, "restoration", lambda self: self.experiment.cue.batch_size)
    changes = [
        {"seed": 0, "cue.timestep": 61}, {"seed": 1}, {"seed": 2, "cue.batch_size": 4},
        {"seed": 3, "cue.source": "autoencoder"}, {"seed": 4, "cue.source": "noise"},
        {"seed": 5, "detector": {"name": "image_only"}},
    ]  # fmt: skip
    chain.prepare_cues([with_overrides(small, one) for one in changes], "faces")
    trained = [step for seed in range(4) for step in (("trained", seed), "freed")]
    assert seen == [*trained, (0, "faces", [41, 61]), (2, "faces", [41])]


def test_the_state_of_an_experiment_in_words(small, monkeypatch, tmp_path):
    (planned,) = expand(small)
    assert chain.state(planned) == "nothing made yet"
    absent = with_overrides(small, {"data": {"name": "dataset", "path": str(tmp_path / "none")}})
    assert chain.state(expand(absent)[0]) == f"nothing made yet; no faces at {tmp_path / 'none'}"
    folder = tmp_path / "detectors"
    for fold in ("one", "two"):
        (folder / fold).mkdir(parents=True)
    (folder / "one" / "done.json").touch()
    monkeypatch.setattr(Workspace, "faces", tmp_path)
    monkeypatch.setattr(Workspace, "detector", lambda self: folder)
    monkeypatch.setattr(Workspace, "has_generator", lambda self: (folder / "result.json").is_file())
    monkeypatch.setattr(chain, "face_columns", lambda experiment: {})
    monkeypatch.setattr(
        chain, "protocol_folds", lambda protocol, columns: [SimpleNamespace(name=n) for n in ("one", "two")]
    )
    assert chain.state(planned) == f"generator not trained, 1 of 2 detectors trained, not evaluated; {folder}"
    (folder / "result.json").touch()
    assert chain.state(planned) == f"generator trained, 1 of 2 detectors trained, evaluated; {folder}"
    pictured = expand(with_overrides(small, {"detector": {"name": "image_only"}}))[0]
    assert chain.state(pictured) == f"1 of 2 detectors trained, evaluated; {folder}"


# Detectors.


@pytest.mark.parametrize(
    ("steps", "count", "kept"), [(10, 4, [2, 5, 8, 10]), (2, 4, [1, 2]), (1, 1, [1]), (100, 3, [33, 67, 100])]
)
def test_checkpoints_are_kept_evenly_and_the_last_is_one(small, steps, count, kept):
    assert (
        train_detector.snapshot_steps(with_overrides(small, {"train.steps": steps, "train.evaluations": count})) == kept
    )
    published = small.model_copy(update={"train": small.train.model_copy(update={"steps": 0})})
    assert train_detector.snapshot_steps(published) == [0]


def test_scores_are_made_by_blocks_of_whole_batches(small, tmp_path, monkeypatch):
    """Four batches a block, whose boundaries depend on nothing else."""
    faces, rows = make_faces(), np.arange(1, 48, 2)
    asked = []

    def score(detector, given, reader, part, size):
        asked.append((detector, reader, len(part), size))
        return faces.labels[part] + part / 100

    monkeypatch.setattr("pipelines.evaluation.scoring.score_faces", score)
    experiment = with_overrides(small, {"evaluate.batch_size": 4})
    path, metadata = tmp_path / "s.parquet", {"role": "dev", "step": 3, "fold": "f", "run": "r"}
    job = evaluate._scoring(experiment, faces, "reader", rows, lambda: "detector", path, metadata)
    assert job.units == 24
    assert job.advance()
    assert asked == [("detector", "reader", 16, 4), ("detector", "reader", 8, 4)]
    table = evaluate.ScoreTable.load(path)
    assert table.score.tolist() == (faces.labels[rows] + rows / 100).tolist()
    for name in ("keys", "videos", "subjects", "domains", "attack_types", "labels"):
        column = {"keys": "key", "attack_types": "attack_type"}.get(name, name.removesuffix("s"))
        assert getattr(table, column).tolist() == getattr(faces, name)[rows].tolist()


# Files to judge, and the page.


def test_pictures_are_judged_in_batches_between_videos(monkeypatch, capsys):
    seen = []

    class Detector:
        batch_size = 2
        settings = "settings"

        def __call__(self, paths, **how):
            seen.append(([path.name for path in paths], how))
            return [Answer(path.name) for path in paths]

        def judge_video(self, path, frames, **how):
            seen.append((path.name, frames, how))
            return Answer(path.name)

        def refusal(self, source, reason):
            seen.append((source, reason))
            return Answer(source)

    class Answer(str):
        verdict = "live"

        def without_pixels(self):
            return f"{self}!"

    names = ["a.png", "b.png", "c.png", "d.mp4", "e.png"]
    found = detect.Found([detect.Medium(Path(name), name) for name in names])
    found.media.insert(4, detect.Medium(Path("x"), "x", "no picture"))
    monkeypatch.setattr(detect, "find_media", lambda paths: found)
    monkeypatch.setattr(detect, "as_table", lambda verdicts, settings, notes: f"{verdicts} {settings} {notes}")
    monkeypatch.setattr(detect, "as_json", lambda *given: given)
    monkeypatch.setattr(detect, "count_refused", lambda verdicts: len(verdicts) - 5)
    text, refused = detect.run([], Detector(), aligned=True, frames=3)
    how = {"aligned": True, "all_faces": False, "panels": False}
    assert seen == [
        (["a.png", "b.png"], how), (["c.png"], how), ("d.mp4", 3, how), ("x", "no picture"), (["e.png"], how)
    ]  # fmt: skip
    judged = ["a.png!", "b.png!", "c.png!", "d.mp4!", "x!", "e.png!"]
    assert (text, refused) == (f"{judged} settings []", 1)
    assert capsys.readouterr().err.startswith("judge: 6 of 6 files")
    found.media[1:] = []
    found.links = 2
    found.others.update({".txt": 2, "no ending": 1})
    answer, _ = detect.run([], Detector(), all_faces=True, json=True)
    assert seen[-1] == (["a.png"], {"aligned": False, "all_faces": True, "panels": False})
    said = "left out: 3 files that are neither pictures nor videos by name (.txt, no ending) and 2 links, which are not"
    assert answer == (["a.png!"], "settings", f"{said} followed", [None])
    assert capsys.readouterr().err == ""
    with pytest.raises(AgfasError, match=r"--frames must be at least 1, not 0\."):
        detect.run([], Detector(), frames=0)


@pytest.mark.parametrize(
    ("place", "more", "words"),
    [
        ({}, {}, "Give either --run, an output folder; --model"),
        ({"run": Path("r"), "model": Path("m")}, {}, "Give either --run"),
        ({"model": Path("m"), "label": "l"}, {}, "--label and --fold choose among the detectors of a run"),
        ({"published": "minifasnet", "fold": "f"}, {}, "--label and --fold choose"),
        ({"run": Path("r")}, {"face_weights": Path("x")}, "--face-weights goes with --published"),
        ({"published": "minifasnt"}, {}, "--published: "),
        ({"published": "minifasnet"}, {"parsing_weights": Path("x")}, "--parsing-weights goes with a detector whose"),
        ({"published": "minifasnet"}, {}, "--published minifasnet needs --weights, the folder that holds "),
    ],
)
def test_a_detector_comes_from_one_place(place, more, words):
    with pytest.raises(AgfasError) as refusal:
        detect.open_detector(detect.Place(**place), **more)
    assert str(refusal.value).startswith(words)


def test_a_detector_is_opened_with_what_was_given(monkeypatch):
    from pipelines.verdict import FaceAntiSpoofing

    seen = []
    for name in ("from_run", "from_pretrained", "from_published"):
        monkeypatch.setattr(FaceAntiSpoofing, name, lambda *given, name=name, **more: seen.append((name, given, more)))
    options = {"face_detector": "yunet", "weights": Path("w")}
    parsed = {"parsing_weights": Path("p")}
    detect.open_detector(detect.Place(run=Path("r"), label="l", fold="f"), **options, **parsed)
    detect.open_detector(detect.Place(model=Path("m")), **options, **parsed)
    detect.open_detector(detect.Place(published="minifasnet"), **options, face_weights=Path("x"))
    assert seen == [
        ("from_run", (Path("r"), "l", "f"), {**options, "face_parser": Path("p")}),
        ("from_pretrained", (Path("m"),), {**options, "face_parser": Path("p")}),
        ("from_published", ("minifasnet", Path("w")), {"face_detector": "yunet", "face_weights": Path("x")}),
    ]


def test_a_saved_model_is_said_with_its_size(tmp_path):
    def save(out):
        (out / "part").mkdir(parents=True)
        (out / "a").write_bytes(bytes(1_000_000))
        (out / "part" / "b").write_bytes(bytes(260_000))

    detector = SimpleNamespace(save_pretrained=save, settings=SimpleNamespace(label="oanet", fold="to_phone"))
    assert detect.save_model(detector, tmp_path / "out") == f"oanet, to_phone: {tmp_path / 'out'} (1.3 MB)"


@pytest.mark.parametrize("local", [True, False])
def test_the_page_is_served_until_it_is_stopped(monkeypatch, local):
    """The third look at the uploads is a SIGTERM, after which the handler is the one before."""
    said, swept, before = [], [], signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(demo, "check_address", lambda host, port: local)
    monkeypatch.setattr(demo, "load_page", lambda: said.append("page loaded"))
    monkeypatch.setattr("pipelines.demo.answer.Judge", lambda detector, aligned: (detector, aligned))

    class Serving:
        def __init__(self, *given):
            said.append(given)

        def __enter__(self):
            return "http://here", SimpleNamespace(sweep=lambda: swept.append(1))

        def __exit__(self, *_):
            said.append("closed")

    def sleep(seconds):
        assert seconds == 30.0
        if len(swept) == 2:
            signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)

    monkeypatch.setattr(demo, "serving", Serving)
    monkeypatch.setattr(demo.time, "sleep", sleep)
    demo.run(lambda: "a detector", "h", 80, True, ["n"], said.append)
    warned = (
        []
        if local
        else ["Everyone who reaches this computer can use it. A browser's webcam works on localhost and https."]
    )
    served = [(("a detector", True), "h", 80, ["n"]), "The page: http://here (Ctrl-C stops it)", *warned, "closed"]
    assert said == ["page loaded", *served, "Stopped; no picture was kept."]
    assert signal.getsignal(signal.SIGTERM) is before


# Models that know people, and baselines.


class Embedding(torch.nn.Module):
    """Embeds a face by its first pixel, as a direction in the plane."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def embed(self, image):
        assert not self.training
        self.seen.append(len(image))
        angle = (image[:, 0, 0, 0] + 1) * 127.5 / 100
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_verification_is_the_auc_over_pairs_of_held_out_faces(monkeypatch):
    """Angles of people A, A, B, B: of six pairs the two of one person, .1 and .45 apart, against four others."""
    faces = make_faces(8)
    object.__setattr__(faces, "images", np.zeros((8, 8, 8, 3), np.uint8))
    faces.images[:4, 0, 0, 0] = [10, 20, 60, 105]
    object.__setattr__(faces, "subjects", np.array(["A", "A", "B", "B"] * 2, dtype=object))
    asked = []
    monkeypatch.setattr(
        type(faces), "live", lambda self, domains, splits: asked.append((domains, splits)) or np.arange(4)
    )
    monkeypatch.setattr(train_identity, "_BATCH", 3)
    encoder = Embedding()
    # Others are .5, .95, .4 and .85 apart: of eight comparisons, one is lost.
    assert train_identity.verification_auc(encoder, faces, ["a"]) == pytest.approx(7 / 8)
    assert encoder.seen == [3, 1]
    assert asked == [(["a"], ("dev",))]
    for subjects in (["A"] * 8, [str(number) for number in range(8)]):
        object.__setattr__(faces, "subjects", np.array(subjects, dtype=object))
        assert train_identity.verification_auc(encoder, faces, ["a"]) is None


@pytest.mark.parametrize(("pretraining", "steps", "at"), [(0.5, 10, 5), (0.25, 10, 2), (0.01, 10, 1)])
def test_the_centre_is_fixed_over_all_faces_after_the_pretraining(monkeypatch, pretraining, steps, at):
    settings = one_of(
        "deep_svdd", **{"generator": {"name": "deep_svdd", "pretraining": pretraining, "loop": {"steps": steps}}}
    ).generator
    faces, rows, seen = make_faces(), np.arange(5), []
    monkeypatch.setattr(train_baseline, "_BATCH", 2)
    model = SimpleNamespace(embedding_sum=lambda image: float(image.sum()), center_at=seen.append)
    after_step = train_baseline._fix_center(settings, faces, rows)
    for step in range(1, steps + 1):
        after_step(step, SimpleNamespace(model=model))
        assert len(seen) == int(step >= at)
    sums = [
        float((faces.images[part].astype(np.float32) / 127.5 - 1).sum())
        for part in (slice(0, 2), slice(2, 4), slice(4, 5))
    ]
    assert [count for _, count in seen[0]] == [2, 2, 1]
    assert [total for total, _ in seen[0]] == pytest.approx(sums, abs=1e-3)
    assert train_baseline._fix_center(one_of("memae").generator, faces, rows) is None


def test_domains_without_live_faces_are_named_with_those_that_there_are():
    with pytest.raises(
        AgfasError, match=r"No live training faces in the domains c, d, which x\.y names\. The dataset has: a, b\."
    ):
        train_baseline.live_faces(make_faces(), ["c", "d"], "x.y")
    found = train_baseline.live_faces(make_faces(), ["a"])
    assert found.tolist() == [row for row in range(48) if row % 2 == 0 and row // 2 % 2 == 1]
