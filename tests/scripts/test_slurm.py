"""The SLURM script with `srun`, `scontrol` and `python` in the place of a cluster's: what each process gets, and when
the job is put back into the queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm_job.sbatch"
# Tasks one after another; the exit code is the highest, as srun's is.
SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] || exit 90
shift
highest=0
for ((task = 0; task < SLURM_NTASKS; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$((task % (SLURM_NTASKS / SLURM_NNODES))) "$@"
  code=$?
  [ "$code" -gt "$highest" ] && highest=$code
done
[ -n "$CANCEL" ] && kill -TERM "$PPID"
exit "$highest"
"""
SCONTROL = """#!/bin/bash
if [ "$1 $2" = "show hostnames" ]; then printf 'node7\\nnode8\\n'; else echo "$*" >> "$LOG/scontrol"; fi
"""
PYTHON = f"""#!{sys.executable}
import json, os, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SRUN_CPUS_PER_TASK")
with open(os.environ["LOG"] + "/python", "a") as log:
    log.write(json.dumps([sys.argv[1:], {{name: os.environ[name] for name in names}}]) + "\\n")
sys.exit(int(os.environ["CODE"]))
"""


@pytest.fixture
def sbatch(tmp_path):
    """Run the script; returns its exit code, what each process got, and the jobs that are queued again."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def run(*arguments, nodes=1, tasks=1, code=0, **more):
        given = {"SLURM_JOB_ID": 70123, "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": nodes, "SLURM_NTASKS": tasks}
        given |= {"SLURM_CPUS_PER_TASK": 6, "LOG": tmp_path, "CODE": code, "CANCEL": "", **more}
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        environment |= {name: str(value) for name, value in given.items()}
        done = subprocess.run(["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True)
        assert done.stderr == ""
        got = [json.loads(line) for line in (tmp_path / "python").read_text().splitlines()]
        queued = tmp_path / "scontrol"
        return done.returncode, got, queued.read_text().splitlines() if queued.is_file() else []

    return run


@pytest.mark.parametrize("command", ["train-dfg", "train", "evaluate", "cues"])
def test_arguments_reach_every_process_as_they_were_quoted(sbatch, command):
    given = [command, "my configs/dfg.yaml", "generator.domains=[a, b]", 'name=it\'s "so" $HOME *', "--output", ""]
    code, got, queued = sbatch(*given, nodes=2, tasks=4)
    assert code == 0
    assert queued == []
    assert [arguments for arguments, _ in got] == [["-m", "agfas", *given]] * 4
    assert [(places["RANK"], places["LOCAL_RANK"]) for _, places in got] == [
        ("0", "0"), ("1", "1"), ("2", "0"), ("3", "1")
    ]  # fmt: skip
    shared = {(p["WORLD_SIZE"], p["LOCAL_WORLD_SIZE"], p["MASTER_ADDR"], p["SRUN_CPUS_PER_TASK"]) for _, p in got}
    assert shared == {("4", "2", "node7", "6")}
    assert {int(places["MASTER_PORT"]) for _, places in got} == {20000 + 70123 % 20000}


def test_code_75_puts_the_job_back_into_the_queue(sbatch):
    assert sbatch("train", "loo.yaml", code=75)[::2] == (75, ["requeue 70123"])


def test_a_job_of_an_array_is_queued_again_alone(sbatch):
    _, _, queued = sbatch("cues", "c.yaml", code=75, SLURM_ARRAY_JOB_ID=70120, SLURM_ARRAY_TASK_ID=3)
    assert queued == ["requeue 70120_3"]


@pytest.mark.parametrize(("code", "more"), [(1, {}), (130, {}), (75, {"CANCEL": "yes"})])
def test_an_error_and_a_cancelled_job_are_not_queued_again(sbatch, code, more):
    assert sbatch("train", "loo.yaml", code=code, **more)[::2] == (code, [])
