"""Commands as launchers start them: signals, two launchers as on two machines, and what no launcher may ask for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from launching import REPOSITORY, ended, environment, free_port, start, torchrun
from safetensors.torch import load_file
from small_experiments import chain_settings

pytestmark = pytest.mark.slow

STEPS = 40


def configured(folder, steps=STEPS, output="runs/tiny"):
    """A file that trains a generator without identity."""
    settings = chain_settings(output)
    settings["identity"] = {"name": "none"}
    settings["generator"]["loop"] |= {"steps": steps, "checkpoint_every": 1000}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def generator(folder):
    """The run folder of the generator that a command made in `folder`."""
    (found,) = (folder / "runs" / "tiny" / "generator").glob("[!.]*")
    return found


def steps_done(folder):
    lines = [path.read_text().count("\n") for path in folder.glob("runs/tiny/generator/*/metrics.jsonl")]
    return sum(lines)


@pytest.mark.parametrize(("processes", "number"), [(1, signal.SIGTERM), (2, signal.SIGUSR1)])
def test_a_signal_ends_training_and_the_same_command_goes_on(tmp_path, processes, number):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    command = ("-m", "pipelines.cli", "train-dfg", "experiment.yaml")
    for folder in (whole, stopped):
        configured(folder)
    assert [rank[0] for rank in ended(start(processes, *command, folders=[whole] * processes))] == [0] * processes
    ranks = start(processes, *command, folders=[stopped] * processes)
    while steps_done(stopped) < 5 and ranks[0].poll() is None:
        time.sleep(0.05)
    ranks[-1].send_signal(number)  # one of them hears it
    results = ended(ranks)
    assert [code for code, _, _ in results] == [75] * processes, results[0][2]
    assert sum(errors.count("run the same command again") for _, _, errors in results) == 1
    assert not any("Traceback" in errors for _, _, errors in results)
    (checkpoint,) = (generator(stopped) / "checkpoints").glob("step_*")
    assert 5 <= int(checkpoint.name.removeprefix("step_")) == steps_done(stopped) < STEPS
    assert [rank[0] for rank in ended(start(processes, *command, folders=[stopped] * processes))] == [0] * processes
    one, other = (load_file(next(generator(folder).rglob("unet/*.safetensors"))) for folder in (whole, stopped))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert json.loads((generator(stopped) / "environment.json").read_text())["processes"] == processes


def test_of_two_jobs_on_one_output_one_works_and_one_is_refused(tmp_path):
    configured(tmp_path)
    command = ("-m", "pipelines.cli", "train-dfg", "experiment.yaml")
    jobs = [start(1, *command, folders=[tmp_path])[0] for _ in range(2)]
    (code, _, errors), (other, _, refused) = sorted(ended(jobs, timeout=200), key=lambda result: result[0])
    assert (code, other) == (0, 1), errors + refused
    assert "is being written by process" in refused.splitlines()[-1]
    assert "Traceback" not in refused
    assert (generator(tmp_path) / "done.json").is_file()


def test_two_launchers_train_as_two_machines(tmp_path):
    config, port = configured(tmp_path, steps=3), free_port()
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2"]
    launcher += ["--config_file", str(REPOSITORY / "configs" / "accelerate" / "multi_node.yaml")]
    launcher += ["--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
    machines = [
        subprocess.Popen(
            [*launcher, "--machine_rank", str(rank), "-m", "pipelines.cli", "train-dfg", config.name],
            **{"env": environment(), "cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
            text=True,
        )
        for rank in range(2)
    ]
    for code, _, errors in ended(machines, timeout=200):
        assert code == 0, errors
    run = generator(tmp_path)
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    assert (run / "done.json").is_file()


def test_machines_without_a_shared_folder_are_told_once(tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        configured(folder)
    results = ended(start(2, "-m", "pipelines.cli", "train-dfg", "experiment.yaml", folders=folders))
    assert [code for code, _, _ in results] == [1, 1]
    assert sum(errors.count("All machines must share it") for _, _, errors in results) == 1
    assert not any((folder / "runs").exists() for folder in folders)


def test_sharded_models_are_refused_once(tmp_path):
    result = torchrun(2, "-m", "pipelines.cli", "train-dfg", configured(tmp_path), ACCELERATE_USE_FSDP="true")
    assert result.returncode != 0
    assert result.stderr.count("FSDP is not supported") == 1
