"""The newest picture of a source that never waits: a thread reads it, and pictures that nobody took are dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from pipelines.data.cameras import PictureMaker
from pipelines.errors import AgfasError

_SECONDS_TO_CLOSE = 0.5


@dataclass(frozen=True)
class Shot:
    """One picture that was taken.

    Attributes:
        arrived: when it was decoded, in seconds of the clock.
        picture: makes the picture.
        dropped: pictures that came since the last taken one, and were not taken.
    """

    arrived: float
    picture: PictureMaker
    dropped: int = 0


class Link(Protocol):
    """One connection to a source.

    Attributes:
        ended: why no more pictures come; None while they may.
    """

    ended: str | None

    def take(self, seconds: float) -> Shot | None:
        """The newest picture that was not taken before; waits at most so long for one."""

    def close(self) -> None:
        """Stop reading."""


class Newest:
    """A connection that is read in a thread of its own, from its opening to its end.

    Args:
        read: opens the source and gives its pictures, see `pictures_of`.
        clock: seconds.
    """

    def __init__(self, read: Callable[[], Iterator[PictureMaker]], clock: Callable[[], float] = time.monotonic) -> None:
        self.ended: str | None = None
        self._read, self._clock = read, clock
        self._shot: Shot | None = None
        self._closing, self._changed = False, threading.Condition()
        # A daemon: a call of a driver that never returns must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="newest picture", daemon=True)
        self._thread.start()

    def take(self, seconds: float) -> Shot | None:
        """See `Link`; after the end, the last picture first."""
        with self._changed:
            self._changed.wait_for(lambda: self._shot is not None or self.ended is not None, seconds)
            shot, self._shot = self._shot, None
            return shot

    def close(self) -> None:
        """Stop at the next picture; a source that is silent is left to its own timeout."""
        self._closing = True
        self._thread.join(_SECONDS_TO_CLOSE)

    def _run(self) -> None:
        why = "The stream ended."
        pictures = self._read()
        try:
            for picture in pictures:
                if self._closing:
                    break
                with self._changed:
                    before = 0 if self._shot is None else self._shot.dropped + 1
                    self._shot = Shot(self._clock(), picture, before)
                    self._changed.notify_all()
        except AgfasError as error:
            why = str(error)
        except Exception as error:  # a driver or decoder may raise anything; its words may hold the address
            why = f"It cannot be read ({type(error).__name__})."
        finally:
            close = getattr(pictures, "close", None)
            if close is not None:
                close()  # the device or socket, now rather than when the garbage is looked for
            with self._changed:
                self.ended = why
                self._changed.notify_all()
