"""Which process makes which task now: locks that the system drops when their process dies.

One byte of a file is one task (POSIX record locks), so there are no stale locks to clean up.

On a file system without locks only a single process is safe. Two would make the same tasks, and could replace each
other's shard or list a task at the same moment. That is harmless while they make the same bytes; machines that differ
by a grey level may leave a shard under the other's checksum, and a line of the manifest may be lost or torn. `agfas
cues --verify` finds such shards, and the next run makes them again.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLAIMS_NAME = "claims.lock"

# Byte 0 guards the moment in which a shard gets its name and its line in the manifest.
_COMMIT, _FIRST_TASK = 0, 1
_TAKEN = (errno.EACCES, errno.EAGAIN)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


class Claims:
    """The claims of one process on one store's tasks.

    Attributes:
        supported: False after the file system was found to have no locks; from then on every claim succeeds and
            `committing` excludes nobody.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = -1  # `__del__` reads it even if opening fails
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self.supported = True

    def take(self, task: int) -> bool:
        """Claim a task; False if another living process holds it."""
        return self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB, _FIRST_TASK + task)

    def release(self, task: int) -> None:
        """Release a claim."""
        self._lock(fcntl.LOCK_UN, _FIRST_TASK + task)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Mutual exclusion between processes, if the file system has locks."""
        self._lock(fcntl.LOCK_EX, _COMMIT)
        try:
            yield
        finally:
            self._lock(fcntl.LOCK_UN, _COMMIT)

    def _lock(self, operation: int, byte: int) -> bool:
        if not self.supported:
            return True
        try:
            fcntl.lockf(self._descriptor, operation, 1, byte)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if error.errno not in _UNSUPPORTED:
                raise
            self.supported = False
        return True

    def close(self) -> None:
        """Release all claims."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()
