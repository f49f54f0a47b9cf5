"""Commands under a launcher: nobody hangs, the results are those of one process, and every message is printed once."""

from __future__ import annotations

import ast
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from launching import ended, start
from safetensors.torch import load_file
from small_experiments import SMALL_LIMITED, chain_settings

import pipelines.stages
from pipelines.cli import TOGETHER
from pipelines.ending import REQUEUE
from pipelines.stages import sweep

PICTURE_ALONE = {"name": "image_only", "preset": "tiny"}


def saved(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def agfas(processes: int, *arguments: object, **more: object) -> list[str]:
    """The output of each process of a command, which must succeed in all."""
    ranks = ended(start(processes, "-m", "pipelines.cli", *arguments, **more), timeout=300)
    assert [code for code, _, _ in ranks] == [0] * processes, [(out[-500:], err[-3000:]) for _, out, err in ranks]
    return [out for _, out, _ in ranks]


def results(root: Path) -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text()) for path in (root / "detectors").glob("*/result.json")}


def scores(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("detectors/*/*/scores/*")}


def grid(root: Path) -> dict[str, Any]:
    """Three experiments of the picture alone, which no process trains with another."""
    settings = chain_settings(root)
    return {**settings, "detector": PICTURE_ALONE, "sweep": {"axes": {"seed": [0, 1, 2]}, "variants": [{"label": "a"}]}}


@pytest.mark.slow
def test_a_sweep_gives_each_process_its_own_experiments(tmp_path):
    one, two = (
        saved(tmp_path / name, grid(tmp_path / name)) for name in ("one", "two") if not (tmp_path / name).mkdir()
    )
    agfas(1, "sweep", one)
    out, other = agfas(2, "sweep", two, "--jobs", 2)
    assert results(tmp_path / "two") == results(tmp_path / "one")
    assert len(results(tmp_path / "two")) == 3
    titles = [line for line in (out + other).splitlines() if line.startswith("[")]
    assert sorted(title[:5] for title in titles) == ["[1/3]", "[2/3]", "[3/3]"]
    assert "--jobs is ignored: each of the 2 launched processes" in out
    assert "Report:" in out
    assert [line for line in other.splitlines() if not line.startswith("[")] == []


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_ends_the_workers_of_a_sweep_with_a_checkpoint(tmp_path, processes):
    path = saved(tmp_path, grid(tmp_path / "out"))
    long = ["train.steps=20000", "train.warmup=0", "train.log_every=1", "train.checkpoint_every=1000000"]
    ranks = start(processes, "-m", "pipelines.cli", "sweep", path, "--jobs", "2", *long)
    metrics: list[Path] = []
    while len(metrics) < 2:
        assert all(rank.poll() is None for rank in ranks), [rank.communicate() for rank in ranks]
        time.sleep(0.2)
        metrics = list((tmp_path / "out" / "detectors").glob("*/*/metrics.jsonl"))
    for rank in ranks:
        rank.terminate()
    assert [code for code, _, _ in ended(ranks, timeout=60)] == [REQUEUE] * processes
    for one in metrics:
        assert list((one.parent / "checkpoints").glob("step_*"))
        length = one.stat().st_size
        time.sleep(0.5)
        assert one.stat().st_size == length  # nobody trains on


@pytest.mark.slow
def test_a_quickstart_under_a_launcher_ends_as_that_of_one_process(tmp_path):
    settings = chain_settings(tmp_path / "one")
    settings["sweep"] = {"variants": [{"label": "cue"}, {"label": "noise", "set": {"cue.source": "noise"}}]}
    path = saved(tmp_path, settings)
    agfas(1, "quickstart", path, "--jobs", 1)
    agfas(2, "quickstart", path, "--output", tmp_path / "two")
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    assert set(one) == set(two)
    for name, result in one.items():
        for rule, numbers in result["mean"].items():
            assert two[name]["mean"][rule] == pytest.approx(numbers, abs=1e-3)


@pytest.mark.slow
def test_fewer_experiments_than_processes_are_trained_together(tmp_path):
    settings = grid(tmp_path)
    settings["sweep"]["axes"]["seed"] = [0]
    out, other, _ = agfas(3, "sweep", saved(tmp_path, settings), "train.per_cell=3")
    assert "[1/1] a (seed=0)" in out
    assert other == ""
    assert len(results(tmp_path)) == 1


# The second argument is the place of the command's; the process that decodes and the second one that scores are slow.
SLOW = """
import sys, time
from pipelines import cli
from pipelines.data import faces
from pipelines.evaluation import scoring
from pipelines.processes import rank_and_world

slept = set()
def slowly(name, work, where):
    def slow(*arguments):
        if name not in slept and where():
            slept.add(name)
            time.sleep(25)
        return work(*arguments)
    return slow
faces.to_square = slowly("decode", faces.to_square, lambda: True)
scoring.score_faces = slowly("score", scoring.score_faces, lambda: rank_and_world()[0] == 1)
cli.main()
"""


@pytest.mark.slow
def test_a_timeout_of_twenty_seconds_survives_slow_decoding_and_slow_evaluation(tmp_path):
    settings = {**chain_settings(tmp_path / "out"), "detector": PICTURE_ALONE}
    settings["evaluate"] = {"replicates": 100, "batch_size": 1}
    path, script = saved(tmp_path, settings), tmp_path / "slow.py"
    agfas(1, "evaluate", path)
    expected = scores(tmp_path / "out")
    for folder in (tmp_path / "out" / "detectors").glob("*/*/scores"):
        shutil.rmtree(folder)
    for pixels in (tmp_path / "out" / "faces").glob("*/pixels-*"):
        pixels.unlink()
    script.write_text(SLOW)
    ranks = ended(start(2, script, "evaluate", path, AGFAS_TIMEOUT=20), timeout=200)
    assert [code for code, _, _ in ranks] == [0, 0], [err[-3000:] for _, _, err in ranks]
    assert scores(tmp_path / "out") == expected  # to the last bit, whoever scored which batch
    assert len(expected) == 8


@pytest.mark.slow
def test_the_watched_loss_is_the_same_on_any_number_of_processes(tmp_path):
    path = saved(tmp_path, {name: SMALL_LIMITED[name] for name in ("data", "protocol")})
    given = [f"{key}={value}" for key, value in SMALL_LIMITED.items() if key not in ("data", "protocol")]
    given += ["detector.name=image_only", "detector.preset=tiny", "train.schedule=plateau", "train.look_every=2"]
    for processes, name in ((1, "one"), (2, "two")):
        agfas(processes, "evaluate", path, *given, "evaluate.batch_size=3", "--output", tmp_path / name)
    losses = []
    for name in ("one", "two"):
        (metrics,) = (tmp_path / name / "detectors").glob("*/*/metrics.jsonl")
        losses.append([json.loads(line).get("dev_loss") for line in metrics.read_text().splitlines()])
    assert [loss for loss in losses[0] if loss] == pytest.approx([loss for loss in losses[1] if loss], rel=1e-4)
    assert len([loss for loss in losses[0] if loss]) == 2


# Runs many commands in one start of each process, and writes what each printed.
EVERY = """
import contextlib, io, json, sys
from pathlib import Path
from pipelines import cli
from pipelines.processes import rank_and_world, wait

said = []
for arguments in json.loads(Path(sys.argv[1]).read_text()):
    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    said.append([code, printed.getvalue()])
    wait()
print(json.dumps(said))
"""


@pytest.mark.slow
def test_the_centre_of_deep_svdd_is_that_of_all_faces_on_any_number_of_processes(tmp_path):
    settings = {**chain_settings(tmp_path), "detector": PICTURE_ALONE}
    loop = {"steps": 2, "batch_size": 4, "log_every": 1}
    settings["generator"] = {"name": "deep_svdd", "preset": "tiny", "loop": loop}
    settings["cue"] = {"source": "deep_svdd", "batch_size": 8}
    path = saved(tmp_path, settings)
    centers = []
    for processes in (1, 2, 3):
        agfas(processes, "train-dfg", path, "--output", tmp_path / str(processes))
        (weights,) = (tmp_path / str(processes) / "generator").glob("*/model/*.safetensors")
        centers.append(load_file(weights)["center"])
    torch.testing.assert_close(centers[1], centers[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(centers[2], centers[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_command_prints_once(tmp_path):
    root, data = tmp_path / "out", tmp_path / "drawn"
    config = str(saved(tmp_path, chain_settings(root)))
    (tmp_path / "grid").mkdir()
    swept = str(saved(tmp_path / "grid", grid(tmp_path / "grid" / "out")))
    commands = [
        ["synth", str(data), "--size", "32", "--subjects", "5", "--corpus-subjects", "5"],
        ["show", str(data)],
        ["simulate", str(data), "--out", str(tmp_path / "simulated"), "--attacks", "print"],
        ["config", "train.steps"],
        ["train-dfg", config, "--dry-run"],
        ["train-dfg", config],
        ["train-tiny-autoencoder", config, "tiny_autoencoder.loop.steps=2", "tiny_autoencoder.loop.batch_size=4"],
        ["inspect-dfg", config, "--timesteps", "41", "--count", "2", "--dry-run"],
        ["inspect-dfg", config, "--timesteps", "41", "--count", "2"],
        ["cues", config, "--status"],
        ["cues", config],
        ["cues", config, "--verify"],
        ["train", config],
        ["evaluate", config],
        ["evaluate", config, "--dry-run"],
        ["probe", config],
        ["sweep", swept, "--dry-run"],
        ["quickstart", swept, "--dry-run"],
        ["reproduce", "--list"],
        ["report", str(root)],
        ["threshold", str(root)],
    ]
    # What is not tried is work of the main process alone, as `show` and `report` are.
    assert {command.__name__.replace("_", "-") for command in TOGETHER} <= {line[0] for line in commands}
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    script = tmp_path / "every.py"
    script.write_text(EVERY)
    ranks = ended(start(2, script, tmp_path / "commands.json", AGFAS_TIMEOUT=100), timeout=300)
    assert [code for code, _, _ in ranks] == [0, 0], [err[-3000:] for _, _, err in ranks]
    one, two = (json.loads(out.splitlines()[-1]) for _, out, _ in ranks)
    for line, (code, printed), (other_code, other) in zip(commands, one, two, strict=True):
        assert (code, other_code, other) == (0, 0, ""), (line, printed, other)
        assert printed, line


def test_stages_print_through_say_alone():
    """But for the title of an experiment that one process alone takes, and the watch, which no launcher starts."""
    found = []
    for path in Path(pipelines.stages.__file__).parent.glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
                found += [f"{path.stem}.{function.name}"] * sum(call in ("print", "typer.echo") for call in calls)
    assert sorted(found) == ["sweep._dealt", "watch._printed", "watch._say"]


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [["4"], ["4", "6"]])
def test_each_worker_has_a_gpu_of_its_own_and_knows_no_launcher(monkeypatch, gpus):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with sweep._workers(gpus, len(gpus), 1) as pool:
        seen = [answer.result() for answer in [pool.submit(variables, 20.0 * (len(gpus) - 1)) for _ in gpus]]
    assert sorted(seen) == [(gpu, "", "", "", "") for gpu in gpus]


def variables(seconds: float) -> tuple[str, ...]:
    """What a worker sees, and time for the other one to begin."""
    time.sleep(seconds)
    names = ("CUDA_VISIBLE_DEVICES", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
    return tuple(os.environ.get(name, "") for name in names)


@pytest.mark.parametrize(
    ("visible", "count", "expected"), [(None, 2, ["0", "1"]), ("3,5", 2, ["3", "5"]), ("", 0, []), (None, 0, [])]
)
def test_gpus_keep_the_names_that_the_environment_gives_them(monkeypatch, visible, count, expected):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert sweep._gpus() == expected


@pytest.mark.parametrize(
    ("name", "processes", "machines"), [("cpu", 1, 1), ("one_gpu", 1, 1), ("multi_gpu", 8, 1), ("multi_node", 16, 2)]
)
def test_accelerate_reads_the_launch_files(name, processes, machines):
    found = load_config_from_file(f"configs/accelerate/{name}.yaml")
    assert (found.num_processes, found.num_machines, found.use_cpu) == (processes, machines, name == "cpu")
    # The experiment decides the precision; a launch file must not.
    assert found.mixed_precision == "no"
