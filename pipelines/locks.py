"""Locks on the bytes of a file that the system drops when their process dies, also by kill -9, so none is ever stale.

They are POSIX record locks, which hold between containers and machines: on NFS 4, and on Lustre mounted with `flock`.
Where Python has no `fcntl` (Windows), a byte is a file that `filelock` locks.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from filelock import BaseFileLock

_TAKEN = (errno.EACCES, errno.EAGAIN)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


class ByteLocks:
    """Locks of one process on the bytes of a file. Closing any descriptor of the file drops them all.

    Attributes:
        path: the file.
        supported: False after the file system was found to have no locks; from then on every lock is granted.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = -1  # `__del__` reads it even if opening fails
        self._files: dict[int, BaseFileLock] = {}
        self.path, self.supported = path, True
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def lock(self, byte: int, *, wait: bool = False) -> bool:
        """Lock a byte; False if another living process holds it and `wait` is not set."""
        if not self.supported:
            return True
        if fcntl is None:
            return self._lock_file(byte, wait)
        return self._lock(fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB, byte)

    def unlock(self, byte: int) -> None:
        """Release a byte."""
        if fcntl is not None:
            self._lock(fcntl.LOCK_UN, byte)
        elif byte in self._files:
            self._files.pop(byte).release()
            # One that another process has just opened stays, and that process removes it.
            with suppress(OSError):
                self._file_of(byte).unlink()

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

    def _lock_file(self, byte: int, wait: bool) -> bool:
        from filelock import FileLock, Timeout

        if byte in self._files:
            return True
        lock = FileLock(self._file_of(byte))
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            return False
        except NotImplementedError:
            self.supported = False
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self.supported = False
        self._files[byte] = lock
        return True

    def _file_of(self, byte: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{byte}")

    def close(self) -> None:
        """Release every byte."""
        for byte in list(self._files):
            self.unlock(byte)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def is_named(self) -> bool:
        """Whether the file still has its name, or another process has removed it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Remove the file, which serves this holder alone, and release every byte."""
        if fcntl is None:
            self.close()  # nothing that is open can be removed on Windows
        with suppress(OSError):
            self.path.unlink()
        self.close()

    def __del__(self) -> None:
        if os is not None:  # as it is when the interpreter ends
            self.close()
