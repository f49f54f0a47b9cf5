"""Progress in a log file: a line every half minute and one at the end; a bar only in a terminal."""

from __future__ import annotations

import os
import sys

import pytest
from tqdm import tqdm

from pipelines import progress
from pipelines.progress import Lines, bar, track


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def stepped(seconds_per_step: float, total: int, **options) -> list[str]:
    """The lines of a job whose every step takes as long."""
    clock, lines = Clock(), []
    with Lines(total, "generator", unit="step", clock=clock, write=lines.append, **options) as shown:
        for _ in range(total - shown.n):
            clock.now += seconds_per_step
            shown.update()
    return lines


def test_a_line_every_half_minute_and_one_at_the_end():
    lines = stepped(1.0, 100)
    assert lines == [
        "generator: 30 of 100 steps, 1 steps/s, 1:10 left",
        "generator: 60 of 100 steps, 1 steps/s, 0:40 left",
        "generator: 90 of 100 steps, 1 steps/s, 0:10 left",
        "generator: 100 of 100 steps, 1 steps/s, 1:40",
    ]


def test_a_quick_job_has_one_line():
    assert stepped(0.001, 1000) == ["generator: 1000 of 1000 steps, 1000 steps/s, 0:01"]


def test_slow_steps_have_a_line_each_and_hours():
    assert stepped(3600.0, 3) == [
        "generator: 1 of 3 steps, 0.000278 steps/s, 2:00:00 left",
        "generator: 2 of 3 steps, 0.000278 steps/s, 1:00:00 left",
        "generator: 3 of 3 steps, 0.000278 steps/s, 3:00:00",
        "generator: 3 of 3 steps, 0.000278 steps/s, 3:00:00",
    ]


def test_a_resumed_job_does_not_count_earlier_steps_as_fast():
    assert stepped(10.0, 7, initial=4)[0] == "generator: 7 of 7 steps, 0.1 steps/s, 0:30"


def test_the_note_is_at_the_end_of_the_line():
    shown = Lines(None, "train", clock=Clock())
    shown.set_postfix_str("loss=0.5")
    assert shown.line() == "train: 0 its, 0 its/s, 0:00, loss=0.5"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_only_in_a_terminal(terminal, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with bar(5, "prepare", initial=2, unit="face") as shown:
        assert isinstance(shown, tqdm if terminal else Lines)
        assert (shown.total, shown.n, shown.unit) == (5, 2, "face")
    if terminal:
        assert (shown.desc, shown.mininterval, bool(shown.dynamic_ncols)) == ("prepare", 0.2, True)
    with bar(None, "prepare") as shown:
        assert (shown.total, shown.n, shown.unit) == (None, 0, "it")


@pytest.mark.parametrize(("terminal", "given", "expected"), [(False, None, "1"), (False, "0", "0"), (True, None, None)])
def test_bars_of_libraries_are_not_drawn_into_log_files(terminal, given, expected, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    names = ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS")
    for name in names:
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name) if given is None else monkeypatch.setenv(name, given)
    progress.quiet_libraries()
    assert [os.environ.get(name) for name in names] == [expected] * 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (3600, "1:00:00"), (36_061, "10:01:01")],
)
def test_durations(seconds, text):
    assert progress._duration(seconds) == text


@pytest.mark.parametrize(("rate", "shown"), [(99.96, "100"), (100.4, "100"), (123.6, "124"), (2.346, "2.35")])
def test_rates_have_three_digits(rate, shown):
    clock = Clock()
    job = Lines(None, "train", clock=clock)
    job.update(rate * 10)
    clock.now = 10.0
    assert f", {shown} its/s, 0:10" in job.line()


def test_a_line_is_due_after_half_a_minute_and_shows_what_is_known_of_the_rest():
    clock, lines = Clock(), []
    with Lines(4, "train", initial=1, clock=clock, write=lines.append) as shown:
        clock.now = 29.9
        shown.update()
        assert lines == []
        clock.now = 30.0
        shown.update(0)
        assert lines == ["train: 2 of 4 its, 0.0333 its/s, 1:00 left"]
        clock.now = 59.0
        shown.update()
    assert lines[1:] == ["train: 3 of 4 its, 0.0339 its/s, 0:30 left"]
    assert Lines(4, "idle", clock=clock).line() == "idle: 0 of 4 its, 0 its/s, 0:00"


def test_track_gives_every_item_and_counts_it(capsys):
    assert list(track([3, 4], "export", unit="shard")) == [3, 4]
    assert capsys.readouterr().err.startswith("export: 2 of 2 shards")
    assert list(track(iter([3]), "export")) == [3]
    assert capsys.readouterr().err.startswith("export: 1 its")
    assert list(track(iter([3]), "export", total=4)) == [3]
    assert capsys.readouterr().err.startswith("export: 1 of 4 its")


def test_nothing_is_shown_in_a_worker_or_another_process(capsys, monkeypatch):
    with bar(1, "train", show=False) as shown:
        shown.update()
    monkeypatch.setattr(progress, "_hidden", False)
    progress.hide_bars()
    assert list(track([1], "export")) == [1]
    assert capsys.readouterr().err == ""
