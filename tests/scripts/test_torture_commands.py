"""What spoils the calls of a command, and what is asked of how it ends; every command survives a short torture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.torture import errors, program
from scripts.torture.commands import Ending
from scripts.torture.faults import DEEDS, Fault, build, calls_in, has_compiler
from scripts.torture.world import differences, faulty_ending, names_file, result, target_of

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="needs a C compiler")

# Six calls below the folder: open, write, fsync, rename, open, read; and one that is not counted.
VICTIM = """
import ctypes, os, sys
folder, orders = sys.argv[1:]
ctypes.CDLL(None).torture(orders.encode())
try:
    new = os.open(folder + "/new", os.O_WRONLY | os.O_CREAT)
    print("wrote", os.write(new, b"12345678"))
    os.fsync(new)
    os.rename(folder + "/new", folder + "/name")
    os.open(folder + "-beside", os.O_WRONLY | os.O_CREAT)
    print(os.read(os.open(folder + "/name", os.O_RDONLY), 9))
except OSError as error:
    print(type(error).__name__, error.strerror)
    print(os.path.exists(folder + "/name"))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("faults"))


@needs_compiler
@pytest.mark.parametrize(
    ("fault", "code", "heard"),
    [
        (Fault(), 0, "wrote 8\nb'12345678'\n"),
        (Fault(2, "short"), 0, "wrote 4\nb'1234'\n"),
        (Fault(4, "EROFS"), 0, "wrote 8\nOSError Read-only file system\nFalse\n"),
        (Fault(6, "EIO"), 0, "wrote 8\nOSError Input/output error\nTrue\n"),
        (Fault(2, "kill"), -9, ""),
    ],
)
def test_one_call_is_spoilt(library, tmp_path, fault, code, heard):
    folder, trace = tmp_path / "folder", tmp_path / "trace"
    folder.mkdir()
    command = [sys.executable, "-c", VICTIM, str(folder), fault.orders(folder, trace)]
    ended = subprocess.run(command, env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, heard)
    calls = calls_in(trace)
    every = ["open to write", "write", "fsync", "rename", "open to read", "read"]
    assert [name for name, _ in calls] == every[: fault.call if code or "Error" in heard else None]
    assert all(path.startswith(f"{folder}/n") for _, path in calls)
    if code:
        assert (folder / "new").read_bytes() == b"1234"


def test_every_error_is_of_some_call():
    assert all(DEEDS.values())


def test_a_hidden_file_stands_for_its_target():
    assert target_of("run/a/.cards.json.77.0123456789abcdef.tmp/x") == "run/a/cards.json/x"
    assert target_of(".faces.lock") == "faces"
    assert target_of("run/.hidden/x") == "run/.hidden/x"
    assert names_file("agfas: faces cannot be written.", ".faces.lock")
    assert names_file("agfas: run/cues/1f is damaged.", "run/cues/1f/shards/0.safetensors")
    assert not names_file("agfas: something went wrong, run it again.", "run/cues/1f/shards/0.safetensors")


@pytest.mark.parametrize(
    ("ending", "wrong"),
    [
        (Ending(0, "", ""), ""),
        (Ending(1, "", "agfas: faces/a.json is damaged. Remove it.\n"), ""),
        (Ending(1, "", "agfas: a file is damaged.\n"), "the sentence does not name the file"),
        (Ending(1, "", ""), "exit code 1 without a sentence"),
        (Ending(1, "", "Traceback (most recent call last):\nKeyError: 'a'\n"), "a traceback: KeyError"),
        (Ending(-11, "", ""), "a traceback"),
    ],
)
def test_an_ending_is_a_sentence_that_names_the_file(ending, wrong):
    assert faulty_ending(ending, "faces/a.json").startswith(wrong)
    assert bool(faulty_ending(ending, "faces/a.json")) == bool(wrong)


def test_what_is_not_a_clean_run_s_is_seen(tmp_path):
    for name, text in {"a.json": "1", "b.json": "2", "metrics.jsonl": '{"step": 1, "seconds_per_step": 2}'}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / ".x.lock").touch()
    clean = result(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "seconds_per_step": 3}')
    assert differences(result(tmp_path), clean) == []
    (tmp_path / "a.json").unlink()
    (tmp_path / "b.json").write_text("3")
    (tmp_path / ".c.tmp").touch()
    assert differences(result(tmp_path), clean) == ["a.json is missing", ".c.tmp was left over", "b.json differs"]
    assert differences(result(tmp_path), clean, more=True) == ["a.json is missing", "b.json differs"]


@needs_compiler
@pytest.mark.slow
def test_a_short_torture_of_every_command_finds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "KINDS", ("export-cues", "save-model"))
    plan = program.Plan(tmp_path, seed=1, kills=10, flips=20, rounds=1)
    report = program.torture(plan, ["commands", "errors", "flips", "together", "copies"])
    assert report.violations == []
    assert "0 silent, 0 traceback" in str(report)
