"""The watch by a clock that tests turn: when it answers, what it averages, when it connects again, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from verdict_facts import SETTINGS

from pipelines.data.cameras import LiveSource, live_source
from pipelines.data.newest import Shot
from pipelines.errors import AgfasError
from pipelines.verdict.answers import FaceVerdict, Verdict
from pipelines.verdict.sightings import STATES, FollowedFace, Sighting
from pipelines.verdict.watching import LONGEST_PAUSE, Ground, Pace, Watch

STREAM, CAMERA = LiveSource("rtsp://u:SECRET@h", "rtsp://***@h"), LiveSource("0", "camera 0", 0)
BOX = (10.0, 10.0, 20.0, 20.0)
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Script:
    """A connection that shows a picture at each of its times (seconds after it was made), then ends or falls silent."""

    clock: Clock
    times: list[float]
    why: str | None = "the stream ended"
    ended: str | None = None
    closed: bool = False
    made: float = field(init=False)

    def __post_init__(self) -> None:
        self.made = self.clock.now

    def take(self, seconds: float) -> Shot | None:
        now = self.clock.now - self.made
        if self.times and now < self.times[0] <= now + seconds:  # waits for it
            self.clock.now, now = self.made + self.times[0], self.times[0]
        ready = [time for time in self.times if time <= now + 1e-9]
        if not ready:
            self.ended = None if self.times else self.why
            self.clock.sleep(0 if self.ended else seconds)
            return None
        self.times = self.times[len(ready) :]
        return Shot(self.made + ready[-1], lambda: PICTURE, len(ready) - 1)

    def close(self) -> None:
        self.closed = True


@dataclass
class Play:
    """A watch over scripts: the connections one after another, with scores for the judged pictures."""

    links: list[Any]
    scores: Any = lambda number: 0.75
    costs: float = 0.0
    source: LiveSource = STREAM
    stop_at: float = 1e9
    threshold: Any = SETTINGS.threshold
    clock: Clock = field(default_factory=Clock)
    made: list[Script] = field(default_factory=list)
    judged: int = 0

    def connect(self) -> Script:
        times, why = self.links[min(len(self.made), len(self.links) - 1)]
        self.made.append(Script(self.clock, list(times), why))
        return self.made[-1]

    def judge(self, photo: np.ndarray) -> Verdict:
        score = self.scores(self.judged)
        self.judged += 1
        self.clock.sleep(self.costs)
        if isinstance(score, Verdict):
            return score
        faces = () if score is None else (FaceVerdict("live", score, BOX),)
        return Verdict("picture 0", "live", "", score, 0.5, "", faces, notes=("dark",))

    def watch(self, **pace: Any) -> Iterator[Sighting]:
        ground = Ground(
            self.judge, self.threshold, self.connect, lambda: self.clock.now >= 100 + self.stop_at, self.clock,
            self.clock.sleep,
        )  # fmt: skip
        return iter(Watch(self.source, Pace(**pace), ground))


def times(start: float, stop: float, rate: float = 10) -> list[float]:
    return [round(start + step / rate, 6) for step in range(round((stop - start) * rate))]


def states(sightings: list[Sighting]) -> list[str]:
    return [sighting.state for sighting in sightings]


def test_an_answer_a_second_with_the_mean_of_the_window():
    play = Play([(times(0, 30), None)], scores=lambda number: number / 64)
    found = list(play.watch(seconds=6.0))
    assert states(found) == ["connecting", "connected", *["verdict"] * 6, "end"]
    answers = found[2:-1]
    assert [answer.seconds for answer in answers] == pytest.approx([0, 1, 2, 3, 4, 5])
    # Five pictures a second; the window of three seconds holds fifteen.
    assert [answer.tracks[0].frames for answer in answers] == [1, 6, 11, 15, 15, 15]
    assert answers[1].tracks[0].score == sum(range(6)) / 6 / 64
    assert answers[4].tracks[0].score == sum(range(6, 21)) / 15 / 64
    assert [answer.tracks[0].newest_score * 64 for answer in answers] == [0, 5, 10, 15, 20, 25]
    assert [answer.tracks[0].id for answer in answers] == [1] * 6
    assert answers[3].tracks[0].seconds == 3.0
    # Ten came a second, and every other one was judged.
    assert (answers[5].judged, answers[5].dropped) == (26, 25)
    assert (found[-1].reason, play.made[0].closed) == ("the time is over", True)


@pytest.mark.parametrize(("mean", "verdict"), [(0.5, "live"), (0.4999, "attack")])
def test_the_threshold_applies_to_the_mean(mean, verdict):
    threshold = SETTINGS.threshold.model_copy(update={"value": 0.5})
    play = Play(
        [(times(0, 9), None)], scores=lambda number: mean + (0.25 if number % 2 else -0.25), threshold=threshold
    )
    face = list(play.watch(seconds=1.5, window=1.2))[-2].tracks[0]
    assert (face.frames, face.verdict, face.threshold) == (6, verdict, 0.5)


def test_by_class_the_mean_of_the_likeliest_attack_is_the_limit():
    threshold = SETTINGS.threshold.model_copy(update={"by_class": True})
    classes = [(0.75, 0.125), (0.125, 0.5)]

    def scored(number: int) -> Verdict:
        face = FaceVerdict("live", 0.4375, BOX, attack_classes=classes[number % 2])
        return Verdict("picture 0", "live", "", 0.4375, 0.5, "", (face,))

    face = list(Play([(times(0, 9), None)], scores=scored, threshold=threshold).watch(seconds=1.5))[-2].tracks[0]
    assert (face.frames, face.threshold, face.verdict) == (6, 0.4375, "live")


def test_a_slow_model_answers_with_every_picture_and_takes_the_newest():
    play = Play([(times(0, 60), None)], costs=2.0)
    found = [sighting for sighting in play.watch(seconds=7.0, every=1.0) if sighting.state == "verdict"]
    assert [answer.seconds for answer in found] == pytest.approx([2.0, 4.0, 6.0, 8.0])
    assert [answer.latency for answer in found] == pytest.approx([2.0] * 4, abs=0.1)
    assert found[1].dropped == pytest.approx(19, abs=1)
    assert [answer.tracks[0].id for answer in found] == [1] * 4


def test_a_face_that_comes_and_goes():
    play = Play([(times(0, 30), None)], scores=lambda number: 0.75 if 5 <= number < 10 else None)
    found = list(play.watch(seconds=4.0))
    # It left 0.2 s before the third answer, which is no longer than a hand takes.
    assert states(found)[2:-1] == ["no face", "verdict", "verdict", "no face"]
    assert found[2].tracks == ()
    assert found[2].latency is not None


def test_pictures_that_cannot_be_judged_say_why():
    refused = Verdict("picture 0", "refused", "too near the edge", None, 0.5, "")
    found = list(Play([(times(0, 9), None)], scores=lambda number: refused).watch(seconds=1.5))
    assert [(each.state, each.reason) for each in found[2:-1]] == [("refused", "too near the edge")] * 2


def test_a_lost_stream_is_connected_again_with_other_faces():
    play = Play([(times(0, 1.5), "reset"), (times(0, 2), None)])
    found = list(play.watch(seconds=5.5))
    assert states(found)[:6] == ["connecting", "connected", "verdict", "verdict", "lost", "reconnected"]
    assert found[4].reason == "reset Next try in 1 s."
    assert {face.id for each in found[:4] for face in each.tracks} == {1}
    assert {face.id for each in found[5:] for face in each.tracks} == {2}
    assert all(link.closed for link in play.made)


def test_pauses_grow_to_half_a_minute_and_start_again_after_a_picture():
    play = Play([([0.0], "gone"), *[([], "gone")] * 7, ([0.0], "gone"), (times(0, 9), None)])
    found = list(play.watch(seconds=200.0, timeout=100.0))
    lost = [each.reason for each in found if each.state == "lost"]
    assert lost == [f"gone Next try in {pause} s." for pause in (1, 2, 4, 8, 16, 30, 30, 30, 1)]
    assert LONGEST_PAUSE == 30
    assert states(found).count("reconnected") == 2


def test_a_silent_stream_is_lost_after_the_timeout():
    play = Play([(times(0, 1), None), (times(0, 50), None)])
    found = list(play.watch(seconds=16.0, timeout=10.0))
    (lost,) = (each for each in found if each.state == "lost")
    assert lost.reason == "rtsp://***@h gave no picture for 10 s. Next try in 1 s."
    assert lost.seconds == pytest.approx(11.0, abs=0.3)


@pytest.mark.parametrize(
    ("source", "retries", "connected", "tries"),
    [
        (STREAM, None, False, 1),
        (CAMERA, None, False, 1),
        (STREAM, 2, False, 3),
        (CAMERA, None, True, 4),
        (CAMERA, 1, True, 2),
        (STREAM, 0, True, 1),
    ],
)
def test_when_tries_are_used_up_the_last_reason_is_the_error(source, retries, connected, tries):
    play = Play([([0.0] if connected else [], "nobody there"), ([], "nobody there")], source=source)
    found: list[Sighting] = []
    with pytest.raises(AgfasError, match=r"^nobody there$"):
        found.extend(play.watch(retries=retries))
    assert (found[-1].state, found[-1].reason, len(play.made)) == ("end", "nobody there", tries)
    assert states(found).count("lost") == tries - 1


def test_a_stream_is_tried_again_without_end():
    play = Play([([0.0], "gone"), ([], "gone")])
    found = list(play.watch(seconds=3600.0))
    assert len(play.made) > 100
    assert found[-1].reason == "the time is over"


@pytest.mark.parametrize("silent", [True, False], ids=["while nothing comes", "between two pictures"])
def test_it_stops_when_it_is_asked(silent):
    play = Play([([] if silent else times(0, 60), None)], stop_at=2.5)
    found = list(play.watch(rate=0.1))
    assert (found[-1].state, found[-1].reason) == ("end", "stopped")
    assert found[-1].seconds == pytest.approx(2.5, abs=0.2)
    assert play.made[0].closed


def test_it_stops_between_two_tries():
    play = Play([([0.0], "gone"), ([], "gone")], stop_at=20.0)
    found = list(play.watch())
    assert found[-1].seconds == pytest.approx(20.0, abs=0.2)


def test_a_caller_that_goes_away_closes_the_connection():
    play = Play([(times(0, 60), None)])
    watch = play.watch()
    assert [next(watch).state for _ in range(3)] == ["connecting", "connected", "verdict"]
    watch.close()  # type: ignore[attr-defined]
    assert play.made[0].closed


def test_a_picture_that_cannot_be_made_is_one_sentence():
    play = Play([(times(0, 9), None)])
    link = Script(play.clock, [0.0])
    link.take = lambda seconds: Shot(play.clock.now, partial(int, "SECRET"))  # type: ignore[assignment,method-assign,arg-type]
    play.connect = lambda: link  # type: ignore[method-assign]
    with pytest.raises(AgfasError, match=r"^A picture of rtsp://\*\*\*@h cannot be read \(ValueError\)\.$"):
        list(play.watch())
    assert link.closed


@pytest.mark.parametrize("name", ["every", "window", "rate", "seconds", "timeout"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_times_are_above_0(name, value):
    with pytest.raises(AgfasError, match=f"^{name} must be a number above 0, not {value}"):
        Pace(**{name: value})


def test_retries_are_at_least_0():
    assert Pace(retries=0).retries == 0
    with pytest.raises(AgfasError, match="retries must be at least 0, not -1"):
        Pace(retries=-1)


FACE = FollowedFace(3, "live", 0.75, 0.5, 4, 0.25, (1.0, 2.4, 30.0, 40.0), 1.5)
SIGHTING = Sighting(
    "2026-11-29T07:01:02.345+00:00",
    9.0,
    "verdict",
    "camera 0",
    "",
    (FACE,),
    "EER of 9",
    0.125,
    7,
    8,
    ("dark",),
    PICTURE,
)  # fmt: skip


def test_an_answer_key_by_key():
    assert SIGHTING.to_dict() == {
        "time": "2026-11-29T07:01:02.345+00:00",
        "seconds": 9.0,
        "state": "verdict",
        "source": "camera 0",
        "reason": "",
        "tracks": [
            {
                "id": 3,
                "verdict": "live",
                "score": 0.75,
                "newest_score": 0.5,
                "frames": 4,
                "threshold": 0.25,
                "box": [1.0, 2.4, 30.0, 40.0],
                "seconds": 1.5,
            }
        ],
        "threshold_origin": "EER of 9",
        "latency": 0.125,
        "judged": 7,
        "dropped": 8,
        "notes": ["dark"],
    }
    assert STATES == ("connecting", "connected", "verdict", "no face", "refused", "lost", "reconnected", "end")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "07:01:02  live     0.7500  face 3 at 1, 2, 30 x 40, mean of 4 frames, newest 0.5000"),
        ({"tracks": (), "state": "no face"}, "07:01:02  no face"),
        ({"tracks": (), "state": "refused", "reason": "too small"}, "07:01:02  refused: too small"),
        ({"tracks": (), "state": "connecting"}, "07:01:02  connecting: camera 0"),
        ({"tracks": (), "state": "end", "reason": "stopped"}, "07:01:02  end: stopped"),
    ],
)
def test_an_answer_as_a_line(changes, line):
    assert list(Sighting(**{**vars(SIGHTING), **changes}).lines()) == [line]


def test_what_is_no_source():
    from pipelines.verdict.watching import watch

    assert live_source("photo.jpg") is None
    with pytest.raises(AgfasError, match=r"^photo\.jpg is neither a camera"):
        watch("photo.jpg", Pace(), lambda photo: None, SETTINGS.threshold)  # type: ignore[arg-type,return-value]
