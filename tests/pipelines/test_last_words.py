"""How a command ends: which words, which code, and who says them; without starting one."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from datetime import timedelta
from hashlib import sha256

import pytest
import torch.distributed
import typer
from typer.testing import CliRunner

from pipelines import cli, ending
from pipelines.ending import INTERRUPTED, REQUEUE, Stopped
from pipelines.errors import AgfasError, OtherProcessFailed


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, which a test may change; also sleeping takes it."""
    now = [100.0]
    monkeypatch.setattr(ending.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ending.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def heard(watch: ending._Watch, number: int) -> int | None:
    """The code of the end that a signal brings at once."""
    try:
        watch.hear(number, None)
    except Stopped as stopped:
        return stopped.code
    return None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_a_signal_ends_a_command_at_once_where_no_work_is_in_hand(clock, number, code):
    assert (INTERRUPTED, REQUEUE) == (130, 75)
    watch = ending._Watch()
    assert heard(watch, number) == code
    assert (watch.code, watch.since) == (code, 100.0)
    assert Stopped(code).args == (code,)


def test_in_a_block_a_signal_waits_and_a_second_key_does_not(clock, capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    watch = ending._Watch()
    watch.depth = 1
    assert heard(watch, signal.SIGTERM) is None
    assert capsys.readouterr().err == ""
    assert heard(watch, signal.SIGUSR1) is None  # of a scheduler, the first counts
    assert watch.code == REQUEUE
    clock[0] += 0.9
    assert heard(watch, signal.SIGINT) is None  # the launcher's echo
    clock[0] += 0.1
    assert heard(watch, signal.SIGINT) == INTERRUPTED


@pytest.mark.parametrize(("rank", "speaks"), [(None, True), ("0", True), ("1", False)])
def test_the_first_process_says_what_a_second_key_would_do(clock, capsys, monkeypatch, rank, speaks):
    monkeypatch.delenv("RANK", raising=False)
    if rank:
        monkeypatch.setenv("RANK", rank)
    watch = ending._Watch()
    watch.depth = 1
    assert heard(watch, signal.SIGINT) is None
    said = capsys.readouterr().err
    assert said == ("agfas: finishing the work in hand; Ctrl-C again stops at once\n" if speaks else "")


def test_what_is_asked_is_kept_until_the_next_command(monkeypatch):
    watch = ending._Watch()
    monkeypatch.setattr(ending, "_watch", watch)
    ending.stop_if_asked()
    assert not ending.is_asked()
    assert ending.exit_code() == INTERRUPTED
    with pytest.raises(Stopped) as stopped:
        ending.stop()  # another process was asked
    assert stopped.value.code == REQUEUE == ending.exit_code()
    assert ending.is_asked()
    with pytest.raises(Stopped):
        ending.stop_if_asked()
    with ending.finishing(), ending.finishing():
        assert watch.depth == 2
    assert watch.depth == 0
    kept = {number: signal.getsignal(number) for number in ending._SIGNALS}
    try:
        ending.watch_signals()
        assert watch.code is None
        assert {signal.getsignal(number) for number in ending._SIGNALS} == {watch.hear}
        ending.ignore_signals()
        assert {signal.getsignal(number) for number in ending._SIGNALS} == {signal.SIG_IGN}
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert set(kept) == {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}


class Board(dict):
    """The store of a launcher."""

    def add(self, name, number):
        self[name] = self.get(name, 0) + number
        return self[name]

    def set(self, name, value):
        self[name] = value

    def check(self, names):
        return all(name in self for name in names)

    def wait(self, names, patience):
        self["waited"] = names, patience
        if not self.check(names):
            raise RuntimeError("nobody said it")


def test_one_of_many_processes_tells_an_error_and_all_leave_with_a_code(clock, capsys, monkeypatch):
    board = Board()
    monkeypatch.setattr(ending, "_board", lambda: board)
    for _ in range(2):
        with pytest.raises(SystemExit) as left:
            ending.leave("agfas: no room", 3)
        assert left.value.code == 3
    assert capsys.readouterr().err == "agfas: no room\n"
    assert board == {sha256(b"agfas: no room").hexdigest(): 2, "code": "3"}
    assert clock[0] == 102.0  # a second of last words each
    with pytest.raises(SystemExit) as left:
        ending.leave_after_another()
    assert left.value.code == 3
    assert "waited" not in board
    with pytest.raises(SystemExit):
        ending.leave_after_another(wait=True)
    assert board["waited"] == (["code"], timedelta(seconds=10))


def test_a_process_that_fails_alone_says_so_to_the_others(clock, monkeypatch):
    board = Board()
    monkeypatch.setattr(ending, "_board", lambda: board)
    ending.leave_after_another()
    assert board == {"code": "1"}
    del board["code"]
    ending.leave_after_another(wait=True)  # nobody said anything in time
    assert board["waited"][0] == ["code"]
    monkeypatch.setattr(ending, "_board", lambda: None)
    ending.leave_after_another()
    with pytest.raises(SystemExit):
        ending.leave("alone", 1)


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ({}, False),
        ({"WORLD_SIZE": "1", "MASTER_ADDR": "here", "MASTER_PORT": "29"}, False),
        ({"MASTER_ADDR": "here", "MASTER_PORT": "29"}, False),
        ({"WORLD_SIZE": "2", "MASTER_PORT": "29"}, False),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "here"}, False),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "x"}, False),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "29"}, True),
    ],
)
def test_last_words_are_left_in_the_store_of_a_launcher(monkeypatch, given, there):
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    opened, ignored = [], []
    monkeypatch.setattr(ending, "ignore_signals", lambda: ignored.append(True))
    monkeypatch.setattr(torch.distributed, "TCPStore", lambda *given, **more: opened.append((given, more)) or "store")
    monkeypatch.setattr(torch.distributed, "PrefixStore", lambda *given: given)
    found = ending._board.__wrapped__()
    assert found == (("agfas/7/", "store") if there else None)
    assert bool(ignored) == there
    if there:
        assert opened == [(("here", 29), {"is_master": False, "timeout": timedelta(seconds=10)})]

        def gone(*_, **__):
            raise RuntimeError("no host")

        monkeypatch.setattr(torch.distributed, "TCPStore", gone)
        assert ending._board.__wrapped__() is None


class Usage(typer.BadParameter):
    """An error of the command line, as click tells it."""


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (None, 0, ""),
        (AgfasError("no room"), 1, "agfas: no room"),
        (OSError(errno.ENOSPC, "full", "/a/b"), 1, "agfas: The disk is full while writing /a/b: nothing already made"),
        (OSError(errno.ENOENT, "No such file", "a"), 1, "agfas: [Errno 2] No such file: 'a'"),
        (RuntimeError("I/O error (os error 28)"), 1, "agfas: The disk is full while writing"),
        (MemoryError("14 GiB"), 1, "agfas: the memory does not suffice (14 GiB)"),
        (Usage("no such option"), 2, "agfas: Invalid value: no such option"),
        (KeyboardInterrupt(), 130, "agfas: interrupted. Finished work is kept; run the same command again to resume."),
        (Stopped(75), 75, "agfas: stopped by a signal. Finished work is kept; run the same command"),
        (OtherProcessFailed("no room"), 1, ""),
        (3, 3, ""),
        (130, 130, "agfas: interrupted."),
    ],
)
def test_every_end_of_a_command_is_a_code_and_a_sentence(monkeypatch, capsys, raised, code, words):
    watch = ending._Watch()
    monkeypatch.setattr(ending, "_watch", watch)
    monkeypatch.setattr(ending, "_board", lambda: None)
    monkeypatch.setattr(ending, "watch_signals", lambda: None)
    seen = {}

    def app(**options):
        seen.update(options)
        if isinstance(raised, Stopped):
            watch.code = raised.code
        if isinstance(raised, BaseException):
            raise raised
        return raised

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == code
    assert seen == {"standalone_mode": False}
    said = capsys.readouterr().err
    assert said.startswith(words)
    assert bool(said) == bool(words)


def test_a_fault_of_the_program_is_a_traceback_and_others_are_told(monkeypatch):
    done = []
    monkeypatch.setattr(ending, "leave_after_another", lambda wait=False: done.append(wait))
    monkeypatch.setattr(ending, "watch_signals", lambda: done.append("watched"))
    monkeypatch.setattr(cli, "app", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()
    assert done == ["watched", False]

    def failed(**_):
        raise OtherProcessFailed("no room")

    monkeypatch.setattr(cli, "app", failed)
    with pytest.raises(SystemExit):
        cli.main()
    assert done == ["watched", False, "watched", True]


def test_names_that_are_no_text_are_printed_and_launched_processes_meet_first(monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(ending, "watch_signals", lambda: None)
    met = []
    monkeypatch.setattr("pipelines.processes.is_launched", lambda: True)
    monkeypatch.setattr("pipelines.processes.state", lambda: met.append(True))
    quiet = []
    monkeypatch.setattr("pipelines.progress.quiet_libraries", lambda: quiet.append(True))
    monkeypatch.setattr("pipelines.memory.keep_freed_memory", lambda: quiet.append(True))
    monkeypatch.setattr(cli, "app", lambda **_: print("a\udcff", met))
    with pytest.raises(SystemExit):
        cli.main()
    assert [stream.errors for stream in streams] == ["backslashreplace"] * 2
    assert quiet == [True, True]
    streams[0].flush()
    assert streams[0].buffer.getvalue() == b"a\\udcff [True]\n"


def test_commands_are_listed_in_the_order_of_use_and_some_are_of_all_processes():
    names = list(typer.main.get_command(cli.app).commands)
    assert names == [
        *("synth", "prepare", "simulate", "show", "train-dfg", "train-tiny-autoencoder", "inspect-dfg", "cues"),
        *("export-cues", "import-cues", "train"),
        *("evaluate", "sweep", "quickstart", "reproduce", "probe", "report", "detect", "demo", "serve", "threshold"),
        *("save-model", "calibrate", "distill", "export", "push", "config"),
    ]
    assert {command.__name__ for command in cli.COMMANDS if command not in cli.TOGETHER} == {
        *("prepare", "show", "export_cues", "import_cues", "report", "detect", "demo", "serve", "threshold"),
        *("save_model", "calibrate", "distill", "export", "push", "config"),
    }


def test_only_the_main_process_does_work_for_one(monkeypatch, tmp_path):
    monkeypatch.setattr("pipelines.processes.is_main", lambda: False)
    done = CliRunner().invoke(cli.app, ["show", str(tmp_path / "nothing")])
    assert (done.exit_code, done.output) == (0, "")


def test_help_is_plain_and_shown_without_arguments():
    done = CliRunner().invoke(cli.app, [])
    words = " ".join(done.output.split())
    assert "AG-FAS: a de-fake face generator, its anomalous cues, and the detectors they guide." in words
    assert "--install-completion" in done.output
    assert "╭" not in done.output


def test_the_program_keeps_libraries_silent():
    import pipelines

    assert pipelines.QUIET == {
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_ERROR_REPORTING": "false",
    }
    assert pipelines.QUIET.keys() <= os.environ.keys()
