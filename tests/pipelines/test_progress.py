"""Progress in a log file: a line every half minute and one at the end; a bar only in a terminal."""

from __future__ import annotations

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
    with bar(2, "prepare") as shown:
        assert isinstance(shown, tqdm if terminal else Lines)


def test_track_gives_every_item_and_counts_it(capsys):
    assert list(track([3, 4], "export", unit="shard")) == [3, 4]
    assert capsys.readouterr().err.startswith("export: 2 of 2 shards")


def test_nothing_is_shown_in_a_worker_or_another_process(capsys, monkeypatch):
    with bar(1, "train", show=False) as shown:
        shown.update()
    monkeypatch.setattr(progress, "_hidden", True)
    assert list(track([1], "export")) == [1]
    assert capsys.readouterr().err == ""
