"""How a command ends before its end: by a signal at the next good moment, or by an error, reported by one process.

SIGTERM and SIGUSR1 come from a scheduler that takes the machine back: exit code 75 (EX_TEMPFAIL of sysexits.h) asks for
the same command again. Ctrl-C is a person's: exit code 130. In a block of `finishing`, a signal is noted and the work
in hand is finished; everywhere else it ends the command at once, which loses nothing that was written. A second Ctrl-C
always does.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from hashlib import sha256
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from torch.distributed import Store

REQUEUE = 75
INTERRUPTED = 130

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# A launcher repeats the Ctrl-C that its processes have heard themselves.
_SECONDS_OF_ECHO = 1.0
# The other processes look for this one's last words, perhaps in a store that this one holds.
_SECONDS_OF_LAST_WORDS = 1.0


class Stopped(KeyboardInterrupt):
    """A signal ends this command; what cleans up after Ctrl-C does so after every signal.

    Attributes:
        code: of the exit.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Watch:
    """The signals that came, and whether some work in hand is to be finished first."""

    def __init__(self) -> None:
        self.depth = 0
        self.code: int | None = None
        self.since = 0.0

    def hear(self, number: int, _frame: FrameType | None) -> None:
        by_hand = number == signal.SIGINT
        if self.code is not None and not by_hand:
            return
        if self.code is not None and time.monotonic() - self.since < _SECONDS_OF_ECHO:
            return
        again = self.code is not None
        self.code, self.since = INTERRUPTED if by_hand else REQUEUE, time.monotonic()
        if again or not self.depth:
            raise Stopped(self.code)
        if by_hand and os.environ.get("RANK", "0") == "0":
            print("agfas: finishing the work in hand; Ctrl-C again stops at once", file=sys.stderr, flush=True)


_watch = _Watch()


def watch_signals() -> None:
    """Hear the signals that end a command, from its beginning and in its main thread."""
    _watch.code = None
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, _watch.hear)


@contextmanager
def finishing() -> Iterator[None]:
    """Let a signal wait in this block until `stop_if_asked`; after the block, until that of a later block."""
    _watch.depth += 1
    try:
        yield
    finally:
        _watch.depth -= 1


def is_asked() -> bool:
    """Whether a signal asked this process to end."""
    return _watch.code is not None


def stop_if_asked() -> None:
    """End the command here if a signal asked for it.

    Raises:
        Stopped: it did.
    """
    if _watch.code is not None:
        stop()


def stop() -> NoReturn:
    """End the command as a signal here, or in another of the processes, asks for.

    Raises:
        Stopped: always.
    """
    _watch.code = _watch.code or REQUEUE
    raise Stopped(_watch.code)


def ignore_signals() -> None:
    """Leave the signals to the process that started this one: they often reach all processes of a job."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def exit_code() -> int:
    """The code that the signal asks for; a plain `KeyboardInterrupt` is Ctrl-C."""
    return _watch.code or INTERRUPTED


def end_at_once(code: int) -> NoReturn:
    """Exit after all that Python does at its end, but for taking its objects apart.

    With torch, that would touch every page of its libraries: a tenth of a second, and 120 MB.

    Raises:
        SystemExit: what was printed cannot be written; Python says so at its own end.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # Python's own end waits for threads first, too
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code)


def leave(message: str, code: int) -> NoReturn:
    """Print a message, unless another process of this job has printed the same, and exit."""
    board = _board()
    if board is None or board.add(sha256(message.encode()).hexdigest(), 1) == 1:
        print(message, file=sys.stderr, flush=True)
    _announce(board, code)
    sys.exit(code)


def leave_after_another(wait: bool = False) -> None:
    """Exit without a word if another process has left: an error here is then only that it is gone.

    Args:
        wait: for its last words; it is known to have failed.
    """
    board = _board()
    if board is None:
        return
    with suppress(RuntimeError):  # it left without a word
        if wait:
            board.wait(["code"], timedelta(seconds=10))
    if board.check(["code"]):
        sys.exit(int(board.get("code")))
    _announce(board, 1)


def _announce(board: Store | None, code: int) -> None:
    if board is not None:
        board.set("code", str(code))
        time.sleep(_SECONDS_OF_LAST_WORDS)


@cache
def _board() -> Store | None:
    """Where the processes of a job leave their last words: the store of their launcher; None if there is but one."""
    place, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", "")
    if os.environ.get("WORLD_SIZE", "1") == "1" or not place or not port.isdigit():
        return None
    ignore_signals()  # the launcher ends the other processes as soon as one has left
    from torch.distributed import PrefixStore, TCPStore

    try:
        store = TCPStore(place, int(port), is_master=False, timeout=timedelta(seconds=10))
    except RuntimeError:  # its host is gone, or was never there
        return None
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    return PrefixStore("/".join(["agfas", *(os.environ.get(name, "") for name in names)]), store)
