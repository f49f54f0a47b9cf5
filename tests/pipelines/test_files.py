"""Writing whole or not at all: a kill between any two steps, a failed rename, a power cut, and what the dead leave."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launching import environment

from pipelines import files, locks
from pipelines.errors import AgfasError
from pipelines.files import remove_stale, write_atomically


class Killed(BaseException):
    """Stands in for a kill: nothing that runs afterwards may tidy up."""


def writer(text):
    def write(folder):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "a.txt").write_text(text)

    return write


def read(folder):
    return (folder / "inner" / "a.txt").read_text()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_replaced_and_nothing_is_left(tmp_path):
    for text in ("old", "new"):
        write_atomically(tmp_path / "model", writer(text))
    assert read(tmp_path / "model") == "new"
    assert names(tmp_path) == ["model"]


def kill_at_rename(monkeypatch, number):
    """Die before rename `number` (from 1), and leave everything as it is at that moment."""
    rename, calls = os.rename, []

    def killing(source, target):
        calls.append(target)
        if len(calls) == number:
            raise Killed
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", killing)
    monkeypatch.setattr(files, "_remove", lambda path: None)


@pytest.mark.parametrize(("number", "left"), [(1, "old"), (2, None), (3, "new")])
def test_a_kill_between_the_renames_loses_nothing(tmp_path, monkeypatch, number, left):
    write_atomically(tmp_path / "model", writer("old"))
    with monkeypatch.context() as patch:
        kill_at_rename(patch, number)
        with pytest.raises(Killed):
            write_atomically(tmp_path / "model", writer("new"))
    assert (read(tmp_path / "model") if left else (tmp_path / "model").exists()) == (left or False)

    def fail(folder):
        writer("half")(folder)
        raise RuntimeError

    # The same command again, which fails: what was whole before is there under its name.
    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "model", fail)
    assert read(tmp_path / "model") == (left or "old")
    write_atomically(tmp_path / "model", writer("newest"))
    assert read(tmp_path / "model") == "newest"
    files._tidied.clear()  # as in the next process
    write_atomically(tmp_path / "model", writer("newest"))
    assert names(tmp_path) == ["model"]


def test_a_folder_that_cannot_take_the_name_gives_it_back(tmp_path, monkeypatch):
    write_atomically(tmp_path / "model", writer("old"))
    rename = os.rename

    def refusing(source, target):
        if str(source).endswith(".tmp"):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", refusing)
    with pytest.raises(AgfasError, match="cannot be written"):
        write_atomically(tmp_path / "model", writer("new"))
    assert read(tmp_path / "model") == "old"
    assert names(tmp_path) == ["model"]


def test_a_file_with_a_name_like_the_one_put_aside_is_the_users(tmp_path):
    theirs = tmp_path / ".model.replaced"
    theirs.write_text("mine")
    write_atomically(tmp_path / "model", writer("new"))
    assert theirs.read_text() == "mine"


def test_what_lies_deepest_is_on_the_disk_first_and_all_of_it_before_the_name(tmp_path, monkeypatch):
    synced = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda file: (synced.append(os.fstat(file).st_ino), fsync(file)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (synced.append("rename"), replace(a, b)))
    write_atomically(tmp_path / "model", writer("new"))
    model = tmp_path / "model"
    order = [model / "inner" / "a.txt", model / "inner", model]
    assert synced == [*[path.stat().st_ino for path in order], "rename", tmp_path.stat().st_ino]


WRITE = """
import os, sys, time
from pathlib import Path
from pipelines import locks
from pipelines.files import remove_stale, write_atomically
os.getpid = lambda: 2**22 + 1  # no process here has the number, as if it ran in another container
if sys.argv[2] == "without fcntl":
    locks.fcntl = None
def write(temporary):
    temporary.mkdir()
    print(remove_stale(temporary.parent), temporary.name, flush=True)
    time.sleep(60)
write_atomically(Path(sys.argv[1]), write)
"""


def writer_in_another_process(path, kind):
    pipes = {"stdout": subprocess.PIPE, "env": environment(), "text": True}
    job = subprocess.Popen([sys.executable, "-c", WRITE, str(path), kind], **pipes)
    removed, name = job.stdout.readline().split()
    assert removed == "0"  # its own
    return job, path.with_name(name)


@pytest.mark.parametrize("kind", ["with fcntl", "without fcntl"])
def test_what_a_living_process_writes_stays_whatever_clocks_and_names_say_until_it_is_killed(
    tmp_path, monkeypatch, kind
):
    if kind == "without fcntl":
        monkeypatch.setattr(locks, "fcntl", None)
    job, temporary = writer_in_another_process(tmp_path / "model", kind)
    for moment in (0, 2**40):
        os.utime(temporary, (moment, moment))
        assert remove_stale(tmp_path) == 0
        assert temporary.is_dir()
    job.kill()
    job.wait()
    os.utime(temporary, (2**40, 2**40))
    assert remove_stale(tmp_path) == 1
    assert names(tmp_path) == []


def test_leftovers_without_a_writer_go_and_what_is_not_ours_stays(tmp_path):
    earlier = ".step_000002.some.host.4711.01234567.tmp"  # as versions before the locks named theirs
    for name in (earlier, ".step_000003.4711.0123456789abcdef.tmp"):
        writer("half")(tmp_path / name)
    (tmp_path / ".step_000004.4711.0123456789abcdef.lock").touch()  # its writer had not begun, or was done
    theirs = [".notes.tmp", ".run.lock", "a.4711.01234567.tmp", ".a.host.12345678.tmp"]
    for name in theirs:
        (tmp_path / name).touch()
    with files.temporary_beside(tmp_path / "step_000001") as own:
        own.mkdir()
        assert remove_stale(tmp_path) == 2
        assert own.is_dir()
    assert names(tmp_path) == sorted(theirs)
    shutil.rmtree(tmp_path)
    assert remove_stale(tmp_path) == 0


def test_where_locks_fail_nothing_is_removed_and_writing_goes_on(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", no_locks)
    left = tmp_path / ".step_000003.4711.0123456789abcdef.tmp"
    left.touch()
    write_atomically(tmp_path / "model", writer("new"))
    assert remove_stale(tmp_path) == 0
    assert left.exists()
    assert read(tmp_path / "model") == "new"


def test_nothing_can_be_removed_from_what_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / ".step_000003.4711.0123456789abcdef.tmp").touch()
    monkeypatch.setattr(locks.os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only")))
    assert remove_stale(tmp_path) == 0
    assert names(tmp_path) == [".step_000003.4711.0123456789abcdef.tmp"]


def test_locks_leave_neither_files_nor_descriptors_and_names_may_be_long(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    path = tmp_path / ("ü" * 120 + ".json")
    for text in "ab":
        files.write_text(path, text)
    assert names(tmp_path) == [path.name]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lock_that_is_taken_away_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    """`remove_stale` of another process finds the lock before it is held."""
    taken, lock = [], locks.ByteLocks.lock

    def late(self, byte, **options):
        if not taken:
            taken.append(self.path.name)
            self.path.unlink()
        return lock(self, byte, **options)

    monkeypatch.setattr(locks.ByteLocks, "lock", late)
    with files.temporary_beside(tmp_path / "model"):
        (left,) = names(tmp_path)
        assert left != taken[0]


def failing(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_failing_disk_is_told_with_the_file_that_was_written(tmp_path, monkeypatch):
    path = tmp_path / "card.json"
    write_atomically(path, lambda temporary: temporary.write_text("old"))
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(AgfasError, match=r"card\.json\S* cannot be read or written \(Input/output error\): nothing"):
        write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["card.json"]


def test_a_file_that_fails_while_it_is_read_has_a_name(tmp_path, monkeypatch):
    path = tmp_path / "keys.txt"
    path.write_text("a")
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(stream, "read", failing)
    monkeypatch.setattr(Path, "open", lambda *_, **__: stream)
    with pytest.raises(OSError, match="Input") as caught:
        path.read_text()
    assert caught.value.filename is None
    assert files.file_of(caught.value) == path


@pytest.mark.parametrize(("number", "whose"), [(errno.EIO, True), (errno.ESTALE, True), (errno.EACCES, False)])
def test_a_wrapped_error_is_still_that_of_the_disk(number, whose):
    error = AgfasError("cannot be decoded")
    error.__context__ = OSError(number, "what happened")
    assert files.is_of_the_disk(error) is whose


def test_a_full_disk_below_a_library_in_rust_is_a_sentence_too(tmp_path):
    def write(temporary):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(AgfasError, match=r"The disk is full while writing \S*weights"):
        write_atomically(tmp_path / "weights", write)
    assert names(tmp_path) == []
    assert files.as_os_error(ValueError("a shape is wrong")) is None
