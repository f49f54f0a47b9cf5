"""A camera or stream under watch: its newest picture is judged, faces are followed, a lost connection is made again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from pipelines.data.cameras import LiveSource, live_source, pictures_of
from pipelines.data.newest import Link, Newest, Shot
from pipelines.errors import AgfasError
from pipelines.verdict.answers import ATTACK, LIVE, NO_FACE, REFUSED, Verdict
from pipelines.verdict.settings import ThresholdSettings
from pipelines.verdict.sightings import (
    CONNECTED,
    CONNECTING,
    END,
    LOST,
    RECONNECTED,
    VERDICT,
    FollowedFace,
    Sighting,
)
from pipelines.verdict.tracking import Track, Tracks

MOST_FACES = 8
"""Faces judged in one picture, the largest ones, which bounds the time of a crowd."""
RETRIES_OF_A_CAMERA = 3
LONGEST_PAUSE = 30.0
_SLICE = 0.1  # seconds between two looks at whether the watch is to end


@dataclass(frozen=True)
class Pace:
    """When a watch judges, answers and gives up.

    Attributes:
        every: seconds between two answers.
        window: seconds over which a face's scores are averaged.
        rate: most pictures judged a second.
        seconds: length of the watch; None: until it is stopped.
        timeout: seconds without a picture after which the connection is lost.
        retries: how often a connection is tried again, also the first one; None: the first one is not, a lost one is
            without end, or three times if it is a camera.

    Raises:
        AgfasError: a value that is not above 0, or not finite.
    """

    every: float = 1.0
    window: float = 3.0
    rate: float = 5.0
    seconds: float | None = None
    timeout: float = 10.0
    retries: int | None = None

    def __post_init__(self) -> None:
        for name in ("every", "window", "rate", "seconds", "timeout"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise AgfasError(f"{name} must be a number above 0, not {value}.")
        if self.retries is not None and self.retries < 0:
            raise AgfasError(f"retries must be at least 0, not {self.retries}.")


@dataclass(frozen=True)
class Ground:
    """What a watch stands on; a test brings its own.

    Attributes:
        judge: the verdict on a picture (H, W, 3) uint8, with all its faces.
        threshold: of the model.
        connect: a new connection.
        stop: whether the watch is to end.
        clock: seconds.
        sleep: waits so many seconds.
    """

    judge: Callable[[np.ndarray], Verdict]
    threshold: ThresholdSettings
    connect: Callable[[], Link]
    stop: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Watch:
    """One run over a source; iterate once.

    Args:
        source: what is watched.
        pace: its times.
        ground: judge, connection and clock.

    Raises:
        AgfasError: after the answer `end`, if a connection was not made, or a picture cannot be judged at all.
    """

    def __init__(self, source: LiveSource, pace: Pace, ground: Ground) -> None:
        self.source, self.pace, self.ground = source, pace, ground
        self._began = ground.clock()
        self._tracks = Tracks(pace.window)
        self._judged = self._dropped = 0
        self._answer_due = -math.inf
        self._why = ""  # the last connection ended

    def __iter__(self) -> Iterator[Sighting]:
        failure = ""
        try:
            yield self._said(CONNECTING)
            yield from self._connections()
        except AgfasError as error:
            failure = str(error)
        yield self._said(END, failure or ("stopped" if self.ground.stop() else "the time is over"))
        if failure:
            raise AgfasError(failure)

    def _connections(self) -> Iterator[Sighting]:
        """One connection after another, until the watch is over or the tries are used up."""
        connected, failed = False, 0
        while not self._is_over():
            link = self.ground.connect()
            try:
                for shot in self._shots(link):
                    if not connected or failed:
                        yield self._said(RECONNECTED if connected else CONNECTED)
                        connected, failed = True, 0
                    yield from self._look(shot)
            finally:
                link.close()
            if self._is_over():
                return
            failed += 1
            if failed > self._tries(connected):
                raise AgfasError(self._why)
            pause = min(2.0 ** (failed - 1), LONGEST_PAUSE)
            yield self._said(LOST, f"{self._why} Next try in {pause:.0f} s.")
            # Another face may have taken the place of one meanwhile.
            self._tracks.forget()
            self._pause(pause)

    def _tries(self, connected: bool) -> float:
        if self.pace.retries is not None:
            return self.pace.retries
        if not connected:
            return 0
        return math.inf if self.source.camera is None else RETRIES_OF_A_CAMERA

    def _shots(self, link: Link) -> Iterator[Shot]:
        """Pictures of one connection, at most `rate` a second; leaves in `_why` how it ended."""
        clock, timeout = self.ground.clock, self.pace.timeout
        last = clock()
        while not self._is_over():
            shot = link.take(_SLICE)
            if shot is not None:
                due, last = clock() + 1 / self.pace.rate, shot.arrived
                self._dropped += shot.dropped
                yield shot
                self._pause(due - clock())
            elif link.ended is not None:
                self._why = link.ended
                return
            elif clock() - last > timeout:
                self._why = f"{self.source.shown} gave no picture for {timeout:g} s."
                return

    def _look(self, shot: Shot) -> Iterator[Sighting]:
        """Judge a picture; answer if it is time."""
        try:
            photo = shot.picture()
        except Exception as error:  # a driver may give anything
            raise AgfasError(f"A picture of {self.source.shown} cannot be read ({type(error).__name__}).") from None
        verdict = self.ground.judge(photo)
        self._judged += 1
        self._tracks.update(shot.arrived, verdict.faces, photo)
        now = self.ground.clock()
        if now < self._answer_due:
            return
        due = self._answer_due + self.pace.every
        self._answer_due = due if due > now else now + self.pace.every
        faces = tuple(map(self._followed, sorted(self._tracks.alive, key=_area, reverse=True)))
        if faces:
            state, reason = VERDICT, ""
        else:
            state, reason = (REFUSED, verdict.reason) if verdict.verdict == REFUSED else (NO_FACE, "")
        yield self._said(state, reason, faces, now - shot.arrived, verdict.notes, photo)

    def _followed(self, track: Track) -> FollowedFace:
        score, limit = track.score, self.ground.threshold.limit(track.classes)
        return FollowedFace(
            id=track.number,
            verdict=LIVE if score >= limit else ATTACK,
            score=score,
            newest_score=track.scores[-1].score,
            frames=len(track.scores),
            threshold=limit,
            box=track.face.box,
            seconds=round(track.seen - track.began, 3),
        )

    def _said(
        self,
        state: str,
        reason: str = "",
        faces: tuple[FollowedFace, ...] = (),
        latency: float | None = None,
        notes: tuple[str, ...] = (),
        photo: np.ndarray | None = None,
    ) -> Sighting:
        return Sighting(
            time=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            seconds=round(self.ground.clock() - self._began, 3),
            state=state,
            source=self.source.shown,
            reason=reason,
            tracks=faces,
            threshold_origin=self.ground.threshold.origin,
            latency=None if latency is None else round(latency, 3),
            judged=self._judged,
            dropped=self._dropped,
            notes=notes,
            photo=photo,
        )

    def _is_over(self) -> bool:
        limit = self.pace.seconds
        return self.ground.stop() or (limit is not None and self.ground.clock() - self._began >= limit)

    def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the watch."""
        until = self.ground.clock() + seconds
        while (left := until - self.ground.clock()) > 0 and not self._is_over():
            self.ground.sleep(min(left, _SLICE))


def watch(
    source: str,
    pace: Pace,
    judge: Callable[[np.ndarray], Verdict],
    threshold: ThresholdSettings,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Sighting]:
    """Watch a camera or stream; see `Ground`.

    Raises:
        AgfasError: it is none; later, those of `Watch`.
    """
    place = live_source(source)
    if place is None:
        raise AgfasError(f"{source} is neither a camera (a number, /dev/videoN) nor an address (scheme://host/path).")
    ground = Ground(judge, threshold, lambda: Newest(lambda: pictures_of(place, pace.timeout)), stop)
    return iter(Watch(place, pace, ground))


def _area(track: Track) -> float:
    return 0.0 if track.face.box is None else track.face.box[2] * track.face.box[3]
