"""Every option of every command reaches its stage as it was given, and nothing else does."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from pipelines.cli import app
from pipelines.commands import experiments
from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.hub import Push
from pipelines.reproduce.request import Asked
from pipelines.stages.detect import Place
from pipelines.training.settings import DistillSettings
from pipelines.verdict.calibration.choice import Choice
from pipelines.verdict.watching import Pace

EXPERIMENT = Experiment()
AGFAS = typer.main.get_command(app)  # once: it takes as long as ten commands


def agfas(words: list[str]) -> int:
    """Run a command; its exit code."""
    return AGFAS.main(args=words, prog_name="agfas", standalone_mode=False) or 0


@pytest.fixture
def seen(monkeypatch) -> list[Any]:
    """What functions of the stages were called with, in turn."""
    calls: list[Any] = []

    def replace(place: str, answer: Any = None) -> None:
        def called(*given: Any, **more: Any) -> Any:
            name = place.removeprefix("pipelines.stages.").removeprefix("pipelines.")
            calls.append((name, *given, more) if more else (name, *given))
            return answer(*given, **more) if callable(answer) else answer

        monkeypatch.setattr(place, called)

    stages = "pipelines.stages"
    for place, answer in {
        f"{stages}.chain.run": None,
        f"{stages}.chain.print_plan": None,
        f"{stages}.sweep.run": None,
        f"{stages}.sweep.print_plan": None,
        f"{stages}.sweep.scaled": lambda experiment, minutes: f"scaled to {minutes}",
        f"{stages}.inspect_dfg.run": None,
        f"{stages}.inspect_dfg.print_plan": None,
        f"{stages}.cues.print_status": None,
        f"{stages}.cues.verify": None,
        f"{stages}.cues.run_alone": None,
        f"{stages}.reproduce.run": None,
        f"{stages}.reproduce.plan": lambda asked: ["a part"] if asked.table == "agfas/IV" else [],
        "pipelines.reproduce.request.listing": ["one", "two"],
        f"{stages}.probe.run": None,
        f"{stages}.report.run": "the page",
        f"{stages}.threshold.run": "a table",
        f"{stages}.synth.run": None,
        f"{stages}.simulate.run": None,
        f"{stages}.prepare.run": 3,
        f"{stages}.prepare.read_recipe": "a recipe",
        f"{stages}.show.run": ["a line", "another"],
        f"{stages}.detect.find": "files",
        f"{stages}.detect.open_detector": "a detector",
        f"{stages}.detect.run": lambda *_, **__: ("a verdict", 0),
        f"{stages}.detect.save_model": "saved",
        f"{stages}.watch.run": None,
        f"{stages}.calibrate.run": "calibrated",
        f"{stages}.distill.check": None,
        f"{stages}.distill.open_teacher": "a teacher",
        f"{stages}.distill.run": "taught",
        f"{stages}.demo.run": None,
        "pipelines.cues.exchange.transfer.export_cues": SimpleNamespace(count=7),
        "pipelines.cues.exchange.transfer.import_cues": "a folder",
        "pipelines.cues.exchange.transfer.local_parcel": lambda given: Path("here"),
        f"{stages}.push.run": None,
        "pipelines.cost.parts.parts_of_makers": lambda experiment: ["makers"],
        "pipelines.cost.parts.parts_of_plan": lambda experiment: ["plan"],
        "pipelines.cost.parts.parts_of_cues": lambda *_: ["cues"],
    }.items():
        replace(place, answer)
    monkeypatch.setattr(experiments, "_read", lambda *given: calls.append(("read", *given)) or EXPERIMENT)
    monkeypatch.setattr(experiments, "_print_costs", lambda *given: calls.append(("costs", *given)))
    return calls


C, O = Path("c.yaml"), Path("o")  # noqa: E741
READ = ("read", C, ["a=1"], O)
GIVEN = ["c.yaml", "a=1", "--output", "o"]


def asked(**changes: Any) -> Asked:
    return Asked(**{"table": "agfas/IV", "configs": Path("configs/paper"), **changes})


DETECT = {"aligned": False, "all_faces": False, "frames": None, "json": False, "csv": None, "save": None}
OPENED = ["--run", "r", "--label", "l", "--fold", "f", "--published", "p", "--face-detector", "yunet"]
OPENED += ["--weights", "w", "--face-weights", "x", "--parsing-weights", "y"]
PLACE = Place(Path("r"), None, "p", "l", "f")
PARTS = {
    "face_detector": "yunet", "weights": Path("w"), "face_weights": Path("x"), "parsing_weights": Path("y"),
}  # fmt: skip
NO_PARTS = dict.fromkeys(PARTS)
OPEN = ("detect.open_detector", PLACE, PARTS)

COMMANDS: dict[str, tuple[list[str], list[tuple]]] = {
    "train-dfg": (["train-dfg", *GIVEN], [(*READ, None), ("chain.run", EXPERIMENT, "train-dfg")]),
    "train": (["train", *GIVEN], [(*READ, None), ("chain.run", EXPERIMENT, "train")]),
    "evaluate": (["evaluate", *GIVEN], [(*READ, None), ("chain.run", EXPERIMENT, "evaluate")]),
    "what a generator costs": (
        ["train-dfg", *GIVEN, "--dry-run", "--gpu", "h100", "--gpus", "2"],
        [(*READ, "h100"), ("chain.print_plan", EXPERIMENT), ("cost.parts.parts_of_makers", EXPERIMENT),
         ("costs", ["makers"], "h100", 2)],
    ),
    "what detectors cost": (
        ["train", *GIVEN, "--dry-run", "--gpu", "h100", "--gpus", "2"],
        [(*READ, "h100"), ("chain.print_plan", EXPERIMENT), ("cost.parts.parts_of_plan", EXPERIMENT),
         ("costs", ["plan"], "h100", 2)],
    ),
    "what is evaluated": (
        ["evaluate", "c.yaml", "--dry-run"], [("read", C, None, None, None), ("chain.print_plan", EXPERIMENT)]
    ),
    "sweep": (["sweep", *GIVEN, "--jobs", "3"], [(*READ, None), ("sweep.run", EXPERIMENT, 3)]),
    "what a sweep costs": (
        ["sweep", *GIVEN, "--dry-run", "--gpu", "h100", "--gpus", "2"],
        [(*READ, "h100"), ("sweep.print_plan", EXPERIMENT), ("cost.parts.parts_of_plan", EXPERIMENT),
         ("costs", ["plan"], "h100", 2)],
    ),
    "quickstart": (
        ["quickstart", *GIVEN, "--minutes", "3", "--jobs", "4"],
        [READ, ("sweep.scaled", EXPERIMENT, 3.0), ("sweep.run", "scaled to 3.0", 4)],
    ),
    "quickstart alone": (
        ["quickstart"],
        [("read", Path("configs/quickstart.yaml"), None, None), ("sweep.scaled", EXPERIMENT, 15.0),
         ("sweep.run", "scaled to 15.0", 2)],
    ),
    "quickstart's plan": (
        ["quickstart", "--dry-run"],
        [("read", Path("configs/quickstart.yaml"), None, None), ("sweep.scaled", EXPERIMENT, 15.0),
         ("sweep.print_plan", "scaled to 15.0")],
    ),
    "inspect-dfg": (
        ["inspect-dfg", *GIVEN, "--timesteps", "21,41", "--count", "5"],
        [READ, ("inspect_dfg.run", EXPERIMENT, [21, 41], 5)],
    ),
    "inspect-dfg's plan": (
        ["inspect-dfg", *GIVEN, "--dry-run"],
        [READ, ("inspect_dfg.print_plan", EXPERIMENT, [201, 401, 601, 801, 999], 128)],
    ),
    "cues": (["cues", *GIVEN], [(*READ, None), ("cues.run_alone", EXPERIMENT, [801], False)]),
    "cues of all": (
        ["cues", *GIVEN, "--timesteps", "21,41", "--whole-dataset"],
        [(*READ, None), ("cues.run_alone", EXPERIMENT, [21, 41], True)],
    ),
    "cues verified": (
        ["cues", *GIVEN, "--verify", "--whole-dataset"], [(*READ, None), ("cues.verify", EXPERIMENT, [801], True)]
    ),
    "cues counted": (
        ["cues", *GIVEN, "--status", "--whole-dataset"],
        [(*READ, None), ("cues.print_status", EXPERIMENT, [801], True)],
    ),
    "what cues cost": (
        ["cues", *GIVEN, "--dry-run", "--gpu", "h100", "--gpus", "2"],
        [(*READ, "h100"), ("cues.print_status", EXPERIMENT, [801], False),
         ("cost.parts.parts_of_cues", EXPERIMENT, [801], False), ("costs", ["cues"], "h100", 2)],
    ),
    "export-cues": (["export-cues", "s", "o"], [("cues.exchange.transfer.export_cues", Path("s"), O, None)]),
    "export-cues of faces": (
        ["export-cues", "s", "o", "--faces", "f"], [("cues.exchange.transfer.export_cues", Path("s"), O, Path("f"))]
    ),
    "import-cues": (
        ["import-cues", "f", "r"],
        [("cues.exchange.transfer.local_parcel", Path("f")),
         ("cues.exchange.transfer.import_cues", Path("here"), Path("r"))],
    ),
    "what push would do": (
        ["push", "f", "me/it", "--dry-run"], [("push.run", Path("f"), "me/it", None, Push(), (), None, typer.echo)]
    ),
    "what push would propose": (
        ["push", "f", "me/it", "--dry-run", "--public", "--revision", "try", "--message", "new", "--create-pr",
         "--licence-checked", "a", "--licence-checked", "b"],
        [("push.run", Path("f"), "me/it", "try", Push(False, None, "new", True), ["a", "b"], None, typer.echo)],
    ),
    "reproduce": (
        ["reproduce", "agfas/IV", "a=1", "b=2", "--on", "synthetic", "--map", "X=y", "--only", "row", "--seeds", "0,1",
         "--scale", "full", "--data", "d", "--output", "o", "--configs", "k", "--jobs", "3"],
        [("reproduce.run", asked(on=("synthetic",), names=("X=y",), only=("row",), seeds="0,1", scale="full",
                                 data=Path("d"), output=O, configs=Path("k"), overrides=("a=1", "b=2")), 3)],
    ),
    "a table alone": (["reproduce", "agfas/IV"], [("reproduce.run", asked(), 1)]),
    "what a table costs": (
        ["reproduce", "agfas/IV", "a=1", "--dry-run", "--gpu", "h100", "--gpus", "2"],
        [("reproduce.plan", asked(overrides=("profile=gpu", "a=1"))), ("costs", ["a part"], "h100", 2)],
    ),
    "a table that costs nothing": (["reproduce", "x", "--dry-run"], [("reproduce.plan", asked(table="x"))]),
    "tables": (["reproduce", "--list", "--configs", "k"], [("reproduce.request.listing", Path("k"))]),
    "no table": (["reproduce"], [("reproduce.request.listing", Path("configs/paper"))]),
    "probe": (["probe", *GIVEN, "--against", "x"], [READ, ("probe.run", EXPERIMENT, "x")]),
    "probe's plan": (["probe", *GIVEN, "--dry-run"], [READ, ("chain.print_plan", EXPERIMENT)]),
    "report": (["report", "r"], [("report.run", Path("r"))]),
    "threshold": (
        ["threshold", "s", "--target", "t", "--label", "l", "--fold", "f", "--max-bpcer", "0.1", "--json"],
        [("threshold.run", Path("s"), Path("t"), "l", "f", 0.1, True)],
    ),
    "threshold alone": (["threshold", "s"], [("threshold.run", Path("s"), None, None, None, 0.05, False)]),
    "synth": (
        ["synth", "o", "--subjects", "6", "--domains", "a, b", "--size", "32", "--corpus-subjects", "7", "--seed", "1"],
        [("synth.run", O, {"subjects": 6, "domains": ["a", "b"], "size": 32, "corpus_subjects": 7, "seed": 1})],
    ),
    "synth alone": (
        ["synth", "o"],
        [("synth.run", O, {"subjects": 30, "domains": None, "size": 64, "corpus_subjects": 300, "seed": 0})],
    ),
    "simulate": (
        ["simulate", "f", "--out", "o", "--attacks", "print, blend", "--cameras", "2", "--per-face", "4", "--domains",
         "a,b", "--size", "32", "--seed", "1"],
        [("simulate.run", Path("f"), O, {"attacks": ["print", "blend"], "cameras": 2, "per_face": 4,
                                         "domains": ["a", "b"], "size": 32, "seed": 1})],
    ),
    "simulate alone": (
        ["simulate", "f", "--out", "o"],
        [("simulate.run", Path("f"), O, {"attacks": None, "cameras": 3, "per_face": 1, "domains": None, "size": None,
                                         "seed": 0})],
    ),
    "show": (["show", "f"], [("show.run", Path("f"))]),
    "detect": (
        ["detect", "a", "b", *OPENED, "--aligned", "--all-faces", "--json", "--csv", "c", "--save", "s", "--frames=3"],
        [("detect.find", [Path("a"), Path("b")], 3), OPEN, ("detect.run", "files", "a detector",
                {"aligned": True, "all_faces": True, "frames": 3, "json": True, "csv": Path("c"), "save": Path("s")})],
    ),
    "detect before a camera": (
        ["detect", "rtsp://h/a", *OPENED, "--json", "--csv", "c", "--every", "2", "--window", "6", "--rate", "3",
         "--for", "60", "--timeout", "5", "--retries", "4", "--all-faces"],
        [OPEN, ("watch.run", "rtsp://h/a", "a detector", Pace(2.0, 6.0, 3.0, 60.0, 5.0, 4),
                {"as_json": True, "table": Path("c")})],
    ),
    "a camera alone": (
        ["detect", "0", *OPENED], [OPEN, ("watch.run", "0", "a detector", Pace(), {"as_json": False, "table": None})]
    ),
    "detect with a model": (
        ["detect", "a", "--model", "m"],
        [("detect.find", [Path("a")], None),
         ("detect.open_detector", Place(None, Path("m"), None, None, None), NO_PARTS),
         ("detect.run", "files", "a detector", DETECT)],
    ),
    "save-model": (
        ["save-model", "r", "--out", "o", *OPENED[2:]], [OPEN, ("detect.save_model", "a detector", O)]
    ),
    "calibrate": (
        ["calibrate", "m", "live", "--out", "o"],
        [("calibrate.run", [Path("m"), Path("live")], Place(), O, Choice(), NO_PARTS)],
    ),
    "calibrate with every option": (
        ["calibrate", "live", "--out", "o", *OPENED, "--bpcer=0.1", "--threshold-only", "--features", "cue",
         "--aligned", "--one-person", "--frames=3"],
        [("calibrate.run", [Path("live")], PLACE, O, Choice(0.1, True, "cue", True, True, 3), PARTS)],
    ),
    "distill": (
        ["distill", "m", "--faces", "f", "--out", "o"],
        [("distill.check", [Path("f")], O),
         ("distill.open_teacher", Path("m"), None, None, None, None, None),
         ("distill.run", "a teacher", [Path("f")], O, DistillSettings())],
    ),
    "distill with every option": (
        ["distill", "r", "--faces", "f", "--faces", "h", "--out", "o", "--steps=5", "--size=64", "--per-face=2",
         "--temperature=3", "--mixed-precision=bf16", "--seed=4", "--label", "l", "--fold", "g",
         "--face-detector", "yunet", "--weights", "w", "--parsing-weights", "y"],
        [("distill.check", [Path("f"), Path("h")], O),
         ("distill.open_teacher", Path("r"), "l", "g", "yunet", Path("w"), Path("y")),
         ("distill.run", "a teacher", [Path("f"), Path("h")], O,
          DistillSettings(steps=5, size=64, per_face=2, temperature=3, mixed_precision="bf16", seed=4))],
    ),
}  # fmt: skip
PRINTED = {
    "export-cues": "7 cues: o\n",
    "export-cues of faces": "7 cues: o\n",
    "import-cues": "Cues: a folder\n",
    "tables": "one\ntwo\n",
    "no table": "one\ntwo\n",
    "report": "Report: the page\n",
    "threshold": "a table\n",
    "threshold alone": "a table\n",
    "show": "a line\nanother\n",
    "detect": "a verdict\n",
    "detect with a model": "a verdict\n",
    "save-model": "saved\n",
    "calibrate": "calibrated\n",
    "calibrate with every option": "calibrated\n",
    "distill": "taught\n",
    "distill with every option": "taught\n",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_passes_on_what_it_is_given(seen, capsys, name):
    words, calls = COMMANDS[name]
    assert agfas(words) == 0
    assert seen == calls
    assert capsys.readouterr().out == PRINTED.get(name, "")


def test_prepare_passes_on_what_it_is_given_and_its_exit_code(seen):
    values: dict[str, Any] = {
        "importer": "folder", "domain": "mine", "alike": "one", "na_subjects": "person", "limit": 5,
        "face_detector": "yunet", "weights": Path("w"), "min_score": 0.5, "aligned": True, "size": 32,
        "template": "agfas", "frames": 3, "frame_rule": "both", "keep_picture": True, "all_faces": True,
        "max_yaw": 10.0, "max_pitch": 20.0, "quality": "paper", "min_quality": 0.25, "enhance": True,
        "parsing_weights": Path("p"), "ratio": 2.0, "max_refused": 0.5, "allow_missing": True, "allow_leaks": True,
        "workers": 2,
    }  # fmt: skip
    words = ["prepare", "s", "--out", "o", "--config", "r", "--option", "live=0", "--option", "b=1"]
    for name, value in values.items():
        words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    assert agfas(words) == 3
    ran = ("prepare.run", Path("s"), O, "a recipe")
    assert seen == [("prepare.read_recipe", Path("r"), values, ["live=0", "b=1"]), ran]
    seen.clear()
    assert agfas(["prepare", "s", "--out", "o"]) == 3
    assert seen == [("prepare.read_recipe", None, dict.fromkeys(values), []), ran]


def test_refused_files_are_an_exit_code_and_a_sentence(seen, monkeypatch, capsys):
    monkeypatch.setattr("pipelines.stages.detect.run", lambda *_, **__: ("a table", 2))
    assert agfas(["detect", "a", "--run", "r"]) == 1
    said = "agfas: 2 could not be judged; the reason is beside each.\n"
    assert capsys.readouterr() == ("a table\n", said)


@pytest.mark.parametrize("alone", [True, False])
def test_the_page_is_served_with_a_detector_that_is_opened_late(seen, alone):
    more = [] if alone else [*OPENED, "--aligned", "--host", "h", "--port", "80", "--name", "n", "--name", "m"]
    assert agfas(["demo", *more]) == 0
    ((name, opened, *rest),) = seen
    assert isinstance(opened, partial)
    assert name == "demo.run"
    expected = ["127.0.0.1", 7860, False, ()] if alone else ["h", 80, True, ["n", "m"]]
    assert rest[:4] == expected
    assert rest[4].__name__ == "echo"
    seen.clear()
    assert opened() == "a detector"
    assert seen == [(OPEN[0], Place(), NO_PARTS) if alone else OPEN]


@pytest.mark.parametrize("words", [["--gpu", "h100"], ["--gpus", "2"]])
@pytest.mark.parametrize("command", [["train", "c"], ["cues", "c"], ["sweep", "c"], ["reproduce", "agfas/IV"]])
def test_a_gpu_is_of_an_estimate(seen, command, words):
    with pytest.raises(AgfasError, match=r"^--gpu and --gpus say what --dry-run estimates costs for: add --dry-run"):
        agfas([*command, *words])
    assert seen == []
    with pytest.raises(AgfasError, match="h1000"):
        agfas([*command, "--dry-run", "--gpu", "h1000"])


@pytest.mark.parametrize(
    ("profile", "gpu", "expected"),
    [
        ("", None, ["a=1", "output=o"]),
        ("", "h100", ["profile=gpu", "a=1", "output=o"]),
        ("profile: auto\n", "h100", ["profile=gpu", "a=1", "output=o"]),
        ("profile: exact\n", "h100", ["a=1", "output=o"]),
    ],
)
def test_an_experiment_is_read_for_the_gpu_that_is_asked_about(tmp_path, monkeypatch, profile, gpu, expected):
    path, read, shared = tmp_path / "c.yaml", [], []
    path.write_text(profile)
    answer = SimpleNamespace(root="the root")
    monkeypatch.setattr("pipelines.experiment.file.read_experiment", lambda *given: read.append(given) or answer)
    monkeypatch.setattr("pipelines.processes.require_shared", shared.append)
    assert experiments._read(path, ["a=1"], O, gpu) is answer
    assert experiments._read(path, None, None) is answer
    assert read == [(path, expected), (path, [])]
    assert shared == ["the root"] * 2


@pytest.mark.parametrize(("left", "main"), [([], True), (["a"], True), (["a"], False)])
def test_costs_are_printed_by_one_process_if_there_are_any(monkeypatch, left, main):
    printed = []
    monkeypatch.setattr("pipelines.cost.parts.left_of", lambda parts: left)
    monkeypatch.setattr("pipelines.processes.is_main", lambda: main)
    monkeypatch.setattr("pipelines.cost.models.print_costs", lambda *given: printed.append(given))
    experiments._print_costs(["x"], "h100", 2)
    assert printed == ([(left, "h100", 2)] if left and main else [])
