"""Starts of one run by several processes: one creates the folder, the others read it, and an error reaches all."""

from __future__ import annotations

import json
import os
import platform
import zlib
from importlib.metadata import version

import pytest
import torch
from launching import ended, start
from training_parts import Regression, batches

from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.fingerprint import fingerprint
from pipelines.processes import processor
from pipelines.training import run as run_module
from pipelines.training.loop import fit
from pipelines.training.run import Run, read_done, read_metrics, score_path, snapshot_folder, steps_in
from pipelines.training.settings import LoopSettings

STARTS = """
import json, sys
from pathlib import Path
from pipelines.errors import AgfasError
from pipelines.processes import rank_and_world
from pipelines.training.run import Run

root, starts = Path(sys.argv[1]), int(sys.argv[2])
rank, world = rank_and_world()
for number in range(starts):
    run = Run(root / str(number), {"number": number}, {"any": "config"})
    assert run.done is None
    assert json.loads((run.folder / "environment.json").read_text())["processes"] == world
refused = []
for folder, identity in ((root / "foreign", {}), (root / "0", {"number": 1})):
    try:
        Run(folder, identity)
    except AgfasError as error:
        refused.append([type(error).__name__, str(error)])
print(json.dumps(refused))
"""


def test_the_environment_says_what_timings_and_last_digits_depend_on(tmp_path, monkeypatch):
    run = Run(tmp_path / "run", {}, {"a": 1})
    assert json.loads((run.folder / "config.json").read_text())["a"] == 1
    switches = {
        torch.backends.cudnn: {"deterministic": True, "allow_tf32": True, "benchmark": False},
        torch.backends.mkldnn: {"is_available": lambda: True},
    }
    for place, values in switches.items():
        for name, value in values.items():
            monkeypatch.setattr(place, name, value)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: False)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "highest")
    fit(Regression(), batches, LoopSettings(steps=1), run, title="train")  # as it is where training begins
    found = read_json(run.folder / "environment.json")
    packages = ("torch", "diffusers", "accelerate", "transformers", "timm", "datasets", "numpy", "onnxruntime")
    assert found == {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "processes": 1,
        "device": "cpu",
        "kernels": "float32 products highest, TF32 convolutions on, cudnn benchmark off, cudnn deterministic on,"
        " deterministic algorithms off, oneDNN on",
        "packages": {name: version(name) for name in packages},
    }
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert run_module._kernels().endswith("oneDNN off")


_SUM = zlib.crc32(b'{"loss":0.5,"step":3}')
LINE = json.dumps({"loss": 0.5, "step": 3, "crc32": f"{_SUM:08x}"})


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        (f"{LINE}\n", [3]),
        (f"{LINE}\n\n{LINE}\n", [3, 3]),
        (LINE, [3]),  # it lost its line break only
        (f"{LINE}\n{LINE[:20]}", [3]),  # cut by a kill
        (f"{LINE}\n{LINE}xy", [3]),
        (f"{LINE}\n{LINE}x", "Line 2"),
        (f"{LINE[:20]}\n{LINE}\n", "Line 1"),
        (LINE.replace("0.5", "0.6"), "Line 1"),
        ('{"loss": 0.6, "step": 3}\n', [3]),  # of a version without checksums
        ('{"loss": "much", "step": 3}\n', "Line 1"),
        ('{"loss": 0.6, "step": 3.5}\n', "Line 1"),
        ('{"loss": 0.6}\n[3]\n', "Line 1"),
        ("[3]\n", "Line 1"),
    ],
)
def test_metrics_are_read_but_for_a_line_that_was_cut(tmp_path, text, steps):
    (tmp_path / "metrics.jsonl").write_text(text)
    if isinstance(steps, str):
        with pytest.raises(AgfasError, match=f"^{steps} of .*metrics.jsonl is not what was written. Remove the line"):
            read_metrics(tmp_path)
    else:
        assert [line["step"] for line in read_metrics(tmp_path)] == steps
        assert all(set(line) == {"loss", "step"} for line in read_metrics(tmp_path))
    assert read_metrics(tmp_path / "elsewhere") == []


def test_a_line_is_written_with_its_checksum_and_forgotten_after_its_step(tmp_path):
    run = Run(tmp_path / "run", {})
    for step in (3, 4, 5):
        run.log({"step": step, "loss": 0.5})
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == json.loads(LINE)
    run.forget_after(4)
    assert (run.folder / "metrics.jsonl").read_text() == "".join(f"{line}\n" for line in lines[:2])


def test_steps_are_in_the_order_of_numbers_and_name_their_files(tmp_path):
    for name in ("step_1000000", "step_000200-dev.parquet", "step_999999", "step_000200-test.parquet", "other"):
        (tmp_path / name).touch()
    assert steps_in(tmp_path) == [200, 999_999, 1_000_000]
    assert snapshot_folder(tmp_path, 7) == tmp_path / "snapshots" / "step_000007"
    assert score_path(tmp_path, 12, "dev") == tmp_path / "scores" / "step_000012-dev.parquet"


def test_a_start_that_was_killed_is_taken_up_and_foreign_files_are_not(tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("config.json", "environment.json", ".hidden"):
        (tmp_path / "run" / name).write_text("{}")
    run = Run(tmp_path / "run", {"seed": 1})
    assert (run.identity, run.done, run.was_done) == ({"seed": 1}, None, False)
    (run.folder / "checkpoints").mkdir()
    run.finish({"steps": 3})
    assert not (run.folder / "checkpoints").exists()
    again = Run(tmp_path / "run", {"seed": 1})
    assert (again.done, again.was_done) == ({"steps": 3}, True)
    with pytest.raises(
        AgfasError, match=r"holds a run with another configuration; different: a, seed\. Choose another"
    ):
        Run(tmp_path / "run", {"seed": 2, "a": 3})


@pytest.mark.parametrize(
    ("place", "identity", "known"),
    [
        ("NAME", {}, True),
        ("NAME", {"seed": 2}, False),
        ("NAME/to_phone", {"fold": "to_phone"}, True),
        ("NAME/to_phone", {"fold": "to_phone", "seed": 2}, False),
        ("NAME", {"fold": "to_phone"}, False),
        ("mine", {"seed": 2}, True),
    ],
)
def test_a_finished_run_is_that_of_the_folder_it_lies_in(tmp_path, place, identity, known):
    """A folder of a workspace has the name of its run, and that of a fold lies below it."""
    of_all = {"schema": 2, "seed": 1}
    folder = tmp_path / place.replace("NAME", fingerprint(of_all))
    folder.mkdir(parents=True)
    write_json(folder / "identity.json", {**of_all, **identity})
    write_json(folder / "done.json", {"steps": 3})
    if known:
        assert read_done(folder) == {"steps": 3}
    else:
        with pytest.raises(AgfasError, match=r"done\.json is not of the run of this folder\. Remove"):
            read_done(folder)


@pytest.mark.slow
def test_checkpoints_that_outlived_the_end_of_their_run_go_at_the_next_start(tmp_path, monkeypatch):
    run, left = Run(tmp_path / "run", {}), tmp_path / "run" / "checkpoints" / "step_000001"
    left.mkdir(parents=True)
    with monkeypatch.context() as killed:
        killed.setattr(run_module, "remove_checkpoints", lambda folder: None)
        run.finish({})
    assert left.is_dir()
    assert Run(tmp_path / "run", {}).was_done
    assert not left.parent.exists()


@pytest.mark.slow
def test_many_starts_of_four_processes(tmp_path):
    script = tmp_path / "starts.py"
    script.write_text(STARTS)
    (tmp_path / "runs" / "foreign").mkdir(parents=True)
    (tmp_path / "runs" / "foreign" / "holiday.jpg").touch()
    ranks = ended(start(4, script, tmp_path / "runs", 25))
    assert [code for code, _, _ in ranks] == [0] * 4, ranks[-1][2]
    for rank, (_, out, _) in enumerate(ranks):
        foreign, other = json.loads(out)
        kind = "AgfasError" if rank == 0 else "OtherProcessFailed"
        assert foreign[0] == other[0] == kind
        assert "is not a run folder" in foreign[1]
        assert "different: number" in other[1]


LATE = """
import sys, time
from pathlib import Path
from pipelines.processes import is_main, wait
from pipelines.training.run import Run

run = Run(Path(sys.argv[1]), {})
if is_main():
    run.finish({"steps": 0})  # nothing to train, as with published weights
else:
    while run.done is None:
        time.sleep(0.01)
print(run.was_done, flush=True)
wait()
again = Run(Path(sys.argv[1]), {})
print(again.was_done, flush=True)
"""


@pytest.mark.slow
def test_a_late_process_finds_a_run_as_the_main_one_found_it(tmp_path):
    """Otherwise it would go on to the next stage and meet the others of this one there."""
    script = tmp_path / "late.py"
    script.write_text(LATE)
    ranks = ended(start(2, script, tmp_path / "run"))
    assert [(code, out.split()) for code, out, _ in ranks] == [(0, ["False", "True"])] * 2
