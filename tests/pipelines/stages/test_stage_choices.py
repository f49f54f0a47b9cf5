"""What the chain, `agfas detect` and the page choose and say, by hand."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.errors import AgfasError
from pipelines.experiment.file import with_overrides
from pipelines.experiment.plan import expand
from pipelines.experiment.workspace import Workspace
from pipelines.stages import (
    chain,
    demo,
    detect,
    evaluate,
)


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


@pytest.mark.parametrize(
    ("there", "finished", "found"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_what_is_evaluated_has_its_faces_and_all_scores(small, monkeypatch, there, finished, found):
    if there:
        small.root.mkdir()
    monkeypatch.setattr(Workspace, "faces", small.root)
    monkeypatch.setattr(chain, "face_columns", lambda experiment: "columns")
    monkeypatch.setattr("pipelines.stages.evaluate.is_finished", lambda experiment, columns: finished)
    assert chain.is_evaluated(small) is (there and finished)


@pytest.mark.parametrize(
    ("left_out", "found"), [("", True), ("a/done", False), ("b/step_000002-dev", False), ("b/step_000002-test", False)]
)
def test_all_checkpoints_of_all_folds_are_scored_on_both_parts(tmp_path, monkeypatch, left_out, found):
    runs = [SimpleNamespace(
        is_finished=left_out != f"{name}/done",
        steps=[1, 2],
        score_path=lambda step, role, name=name: tmp_path / f"{name}-{step}-{role}",
    ) for name in "ab"]  # fmt: skip
    for run, name in zip(runs, "ab", strict=True):
        for step in run.steps:
            for role in ("dev", "test"):
                if f"{name}/step_00000{step}-{role}" != left_out:
                    run.score_path(step, role).touch()
    monkeypatch.setattr(evaluate, "_runs", lambda experiment, columns: [("fold", run) for run in runs])
    assert evaluate.is_finished("experiment", "columns") is found


@pytest.mark.parametrize("needs", [True, False])
@pytest.mark.parametrize("last", ["train-dfg", "train"])
def test_all_that_can_be_refused_is_refused_before_anything_is_made(small, monkeypatch, last, needs):
    seen = []

    def note(place: str, name: str, answer=None) -> None:
        monkeypatch.setattr(place, lambda *given: seen.append(name) or answer)

    opened = SimpleNamespace(columns=lambda: "columns")
    stages = "pipelines.stages"
    note(f"{stages}.train_dfg.check_options", "generator's options")
    note(f"{stages}.train_dfg.run", "generator")
    note(f"{stages}.train_detector.check_options", "options")
    note(f"{stages}.train_detector.check_faces", "faces fit")
    note(f"{stages}.train_detector.run", "detectors")
    note(f"{stages}.detector_batches.check_shares", "shares")
    note(f"{stages}.chain._check_shares_of_loops", "shares of loops")
    note(f"{stages}.chain.make_faces", "faces", opened)
    note(f"{stages}.chain.protocol_folds", "folds", ["a fold"])
    note(f"{stages}.chain.indices", "fold fits")
    note(f"{stages}.chain.prepare_cues", "cues")
    monkeypatch.setattr(Workspace, "needs_generator", lambda self: needs)
    assert chain._made(small, last) is opened
    options = ["generator's options"] if needs or last == "train-dfg" else []
    made = ["faces fit", "folds", "fold fits", "shares", "cues", "detectors"]
    rest = ["faces", "generator"] if last == "train-dfg" else ["options", "faces", *made]
    assert seen == ["shares of loops", *options, *rest]


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
    monkeypatch.setattr(detect, "as_table", lambda verdicts, settings, notes: f"{verdicts} {settings} {notes}")
    monkeypatch.setattr(detect, "as_json", lambda *given: given)
    monkeypatch.setattr(detect, "count_refused", lambda verdicts: len(verdicts) - 5)
    text, refused = detect.run(found, Detector(), aligned=True, frames=3)
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
    answer, _ = detect.run(found, Detector(), all_faces=True, json=True)
    assert seen[-1] == (["a.png"], {"aligned": False, "all_faces": True, "panels": False})
    said = "left out: 3 files that are neither pictures nor videos by name (.txt, no ending) and 2 links, which are not"
    assert answer == (["a.png!"], "settings", f"{said} followed", [None])
    assert capsys.readouterr().err == ""
    with pytest.raises(AgfasError, match=r"--frames must be at least 1, not 0\."):
        detect.find([], frames=0)


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
