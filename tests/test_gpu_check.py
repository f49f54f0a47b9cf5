"""scripts/gpu_check.sh: what it says without a GPU, its exit codes and its table; the checks themselves on a CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scripts import gpu_check
from scripts.gpu_check import FAILED, NO_GPU, OK, SKIPPED, Check, guarded, report

ROOT = Path(__file__).parents[1]


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
    return gpu_check.main()


def test_without_a_gpu_it_says_so_and_its_code_is_two(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: None)
    assert run(monkeypatch) == NO_GPU
    text = capsys.readouterr().out
    assert text.count("no GPU: torch sees no CUDA device") == 2
    assert "driver: unknown, since nvidia-smi is not there" in text
    assert text.rstrip().endswith("0 ok, 0 failed, 2 skipped")


def test_a_gpu_that_is_too_small_is_named_with_what_it_lacks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=4 * 2**30))
    assert gpu_check.what_is_missing() == "the GPU is too small: it has 4.0 GiB, and the checks need 6"


def test_one_failure_is_a_row_and_the_code_one(monkeypatch, capsys):
    def fail() -> str:
        raise RuntimeError("CUDA error: something\nand its trace")

    monkeypatch.setattr(gpu_check, "device_tests", lambda device, quick: [Check("a cue", OK, "1 s")])
    monkeypatch.setattr(
        gpu_check, "figures", lambda device, quick: {"a step": fail, "calls": lambda: "9 faces a second"}
    )
    assert run(monkeypatch, "--device", "cpu") == 1
    text = capsys.readouterr().out
    assert "| a step | failed | RuntimeError: CUDA error: something |" in text
    assert "| calls | ok | 9 faces a second |" in text
    assert "2 ok, 1 failed, 0 skipped" in text


def test_results_of_pytest_become_rows(monkeypatch):
    results = (
        '<testsuites><testsuite><testcase name="test_a_cue" time="1.25"/>'
        '<testcase name="test_two"><skipped message="one GPU"/></testcase>'
        '<testcase name="test_step"><failure message="AssertionError: 1 != 2&#10;more"/></testcase>'
        "</testsuite></testsuites>"
    )

    def pytest_of(command, **options):
        assert options["env"]["AGFAS_DEVICE"] == "cuda"
        Path(command[-1].removeprefix("--junit-xml=")).write_text(results)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(gpu_check.subprocess, "run", pytest_of)
    assert gpu_check.device_tests("cuda", quick=False) == [
        Check("a cue", OK, "1.2 s"), Check("two", SKIPPED, "one GPU"), Check("step", FAILED, "AssertionError: 1 != 2"),
    ]  # fmt: skip
    monkeypatch.setattr(gpu_check.subprocess, "run", lambda command, **options: SimpleNamespace(returncode=4))
    (check,) = gpu_check.device_tests("cuda", quick=False)
    assert (check.state, check.figures) == (FAILED, "pytest ended with code 4 and no results")


def test_guarded_and_report():
    assert guarded("a", lambda: "b") == Check("a", OK, "b")
    assert guarded("a", lambda: 1 // 0).state == FAILED  # type: ignore[arg-type, return-value]
    assert "| a | ok | b |" in report([Check("a", OK, "b")])


@pytest.mark.slow
def test_every_check_passes_on_a_cpu_against_itself():
    done = subprocess.run(
        [sys.executable, "scripts/gpu_check.py", "--device", "cpu", "--quick"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "0 failed" in done.stdout
