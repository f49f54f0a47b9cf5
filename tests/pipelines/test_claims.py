"""One job writes a folder: others are refused in a sentence or wait, and a killed job leaves nothing locked."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from contextlib import contextmanager

import filelock
import pytest
from launching import environment
from prepare_stubs import SMALL, SquareDetector, people

from pipelines import claims as claims_module
from pipelines import locks
from pipelines.claims import Claims, leave_folder, sole_writer, take_folder
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.errors import AgfasError
from pipelines.stages.prepare import run as prepare
from pipelines.training.run import Run

HOLD = """
import sys, time
from pathlib import Path
from pipelines.claims import take_folder
take_folder(Path(sys.argv[1]))
print("taken", flush=True)
time.sleep(60)
"""
# Adds to a file what two processes would lose if they read it at the same moment.
ADD = """
import sys
from pathlib import Path
from pipelines.claims import in_turn
path = Path(sys.argv[1])
for _ in range(200):
    with in_turn(path.with_name(".lock")):
        path.write_text(str(int(path.read_text()) + 1))
"""
COUNT = """
import sys
from pathlib import Path
from pipelines.errors import AgfasError
from pipelines.claims import sole_writer
folder = Path(sys.argv[1])
done = 0
while done < 20:
    try:
        with sole_writer(folder):
            count = folder / "count"
            count.write_text(str(int(count.read_text()) + 1))
            done += 1
    except AgfasError:
        pass
"""
WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None
import pipelines.locks
del sys.modules["fcntl"]  # `filelock` finds it
"""


def start(*command):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *map(str, command)], env=environment(), text=True, **pipes)


@contextmanager
def another_job(folder, first=""):
    """A process that writes `folder`."""
    job = start("-c", first + HOLD, folder)
    try:
        assert job.stdout.readline() == "taken\n"
        yield job
    finally:
        job.kill()
        job.wait()


def test_the_second_job_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    folder = tmp_path / "faces"
    with another_job(folder) as job:
        with pytest.raises(AgfasError, match=rf"faces is being written by process {job.pid} on .*Wait for it"):
            take_folder(folder)
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
        with sole_writer(folder):
            pass
    assert list(tmp_path.iterdir()) == []


def test_the_same_holds_where_python_has_no_fcntl(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    folder = tmp_path / "faces"
    with another_job(folder, WITHOUT_FCNTL) as job:
        with pytest.raises(AgfasError, match=f"being written by process {job.pid} on"):
            take_folder(folder)
        job.kill()
        job.wait()
        with sole_writer(folder):
            pass
    claims, others = Claims(tmp_path / "claims.lock"), Claims(tmp_path / "claims.lock")
    assert claims.take(3)
    assert claims.take(3)
    assert not others.take(3)
    assert others.take(4)
    claims.release(3)
    with others.committing():
        assert others.take(3)
    for one in (claims, others):
        one.close()
    assert [path.name for path in tmp_path.iterdir()] == ["claims.lock"]


def test_what_takes_hours_is_refused_while_another_job_makes_it(tmp_path):
    folder, source = tmp_path / "out", people(tmp_path / "crowd", subjects=1, pictures=1)
    with another_job(folder):
        with pytest.raises(AgfasError, match="out is being written by process"):
            Run(folder, {})
        with pytest.raises(AgfasError, match="out is being written by process"):
            prepare(source, folder, PrepareRecipe(**SMALL), SquareDetector)
    Run(folder, {})


def test_a_finished_run_is_no_longer_the_jobs(tmp_path):
    run = Run(tmp_path / "run", {})
    assert (tmp_path / ".run.lock").is_file()
    run.finish({})
    with another_job(tmp_path / "run"):
        assert Run(tmp_path / "run", {}).done == {}


def test_jobs_take_turns(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "count").write_text("0")
    jobs = [start("-c", COUNT, tmp_path / "out") for _ in range(3)]
    assert [job.wait(timeout=60) for job in jobs] == [0, 0, 0]
    assert (tmp_path / "out" / "count").read_text() == "60"


def test_short_work_takes_turns(tmp_path):
    (tmp_path / "plan").write_text("0")
    jobs = [start("-c", ADD, tmp_path / "plan") for _ in range(2)]
    assert [job.wait(timeout=60) for job in jobs] == [0, 0]
    assert (tmp_path / "plan").read_text() == "400"


@pytest.mark.parametrize(("code", "granted"), [(errno.ENOSYS, True), (errno.EIO, False)])
def test_without_fcntl_a_failing_disk_is_not_taken_for_a_file_system_without_locks(
    tmp_path, monkeypatch, code, granted
):
    def fails(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(filelock.FileLock, "acquire", fails)
    found = locks.ByteLocks(tmp_path / "claims.lock")
    if granted:
        assert found.lock(0)
        assert not found.supported
    else:
        with pytest.raises(OSError, match=os.strerror(code)):
            found.lock(0)


def test_a_folder_is_taken_twice_by_its_own_process(tmp_path):
    for _ in range(2):
        take_folder(tmp_path / "out")
    leave_folder(tmp_path / "out")
    assert (tmp_path / ".out.lock").is_file()
    leave_folder(tmp_path / "out")
    assert not (tmp_path / ".out.lock").exists()


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, capsys):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with sole_writer(tmp_path / "out"):
        pass
    assert "has no locks: let no second job write there" in capsys.readouterr().err


def test_a_parent_that_cannot_be_written_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with sole_writer(tmp_path):
        pass
    assert "has no lock: let no second job write there" in capsys.readouterr().err


def failing_with(code):
    def fails(*_, **__):
        raise OSError(code, os.strerror(code))

    return fails


@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS", "ENOTSUP", "EINVAL"])
def test_file_systems_without_locks_say_so_in_many_ways(tmp_path, monkeypatch, code):
    claims = Claims(tmp_path / "claims.lock")
    monkeypatch.setattr(locks.fcntl, "lockf", failing_with(getattr(errno, code)))
    assert claims.supported
    assert claims.take(0)
    assert not claims.supported
    monkeypatch.setattr(locks.fcntl, "lockf", failing_with(errno.EIO))  # nobody asks any more
    assert claims.take(1)
    claims.release(1)
    with claims.committing():
        pass


@pytest.mark.parametrize(("code", "taken"), [("EACCES", True), ("EAGAIN", True), ("EIO", False)])
def test_a_byte_of_another_process_is_not_granted(tmp_path, monkeypatch, code, taken):
    claims = Claims(tmp_path / "claims.lock")
    monkeypatch.setattr(locks.fcntl, "lockf", failing_with(getattr(errno, code)))
    if taken:
        assert claims.take(0) is False
    else:
        with pytest.raises(OSError, match="Input/output"):
            claims.take(0)
    assert claims.supported


def test_a_task_is_a_byte_and_the_first_one_is_for_the_manifest(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(locks.fcntl, "lockf", lambda descriptor, how, length, byte: asked.append((how, length, byte)))
    claims = Claims(tmp_path / "claims.lock")
    claims.take(0)
    claims.take(5)
    with claims.committing():
        asked.append("here")
    claims.release(5)
    free, now, wait = fcntl.LOCK_UN, fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX
    assert asked == [(now, 1, 1), (now, 1, 6), (wait, 1, 0), "here", (free, 1, 0), (free, 1, 6)]


def test_a_closed_lock_holds_no_descriptor_and_a_missing_folder_is_an_error(tmp_path, left_open):
    lock = locks.ByteLocks(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o111 == 0
    assert lock.is_named()
    (tmp_path / "a").unlink()
    assert not lock.is_named()
    (tmp_path / "a").touch()
    assert not lock.is_named()
    for _ in range(2):
        lock.close()
    assert left_open() == []
    with pytest.raises(FileNotFoundError):
        locks.ByteLocks(tmp_path / "none" / "a")
    other = locks.ByteLocks(tmp_path / "b")
    other.remove()
    other.remove()
    del other
    assert not (tmp_path / "b").exists()
    assert left_open() == []


def test_the_holder_is_told_in_its_own_words(tmp_path, monkeypatch):
    take_folder(tmp_path / "out")
    text = (tmp_path / ".out.lock").read_text()
    assert text == f"process {os.getpid()} on {platform.node()}"
    leave_folder(tmp_path / "out")
    leave_folder(tmp_path / "out")
    (tmp_path / ".out.lock").write_text("a longer text, which an earlier holder left there for whom it may concern")
    with sole_writer(tmp_path / "out"):
        assert (tmp_path / ".out.lock").read_text() == text
    (tmp_path / ".out.lock").write_text("garbage")
    monkeypatch.setattr(claims_module._FolderLock, "lock", lambda self, byte: False)
    with pytest.raises(AgfasError, match=r"out is being written by another process\. Wait for it, or end it; then run"):
        take_folder(tmp_path / "out")


def test_a_lock_that_its_last_holder_removed_meanwhile_is_made_again(tmp_path, monkeypatch):
    named, is_named = [], locks.ByteLocks.is_named
    monkeypatch.setattr(
        locks.ByteLocks, "is_named", lambda self: named.append(1) or (len(named) > 1 and is_named(self))
    )
    with sole_writer(tmp_path / "out"):
        assert len(named) == 2


def test_a_new_folder_in_a_parent_that_cannot_be_written_needs_its_lock(tmp_path, monkeypatch):
    """Only a folder that is there, as a mount of a container, may go without."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with sole_writer(tmp_path / "new"):
        assert (tmp_path / ".new.lock").is_file()


def test_a_turn_ends_with_an_error_too(tmp_path, left_open):
    with pytest.raises(ZeroDivisionError), claims_module.in_turn(tmp_path / "deep" / ".lock"):
        raise ZeroDivisionError
    assert left_open() == []
    (tmp_path / "file").touch()
    with pytest.raises(AgfasError, match="cannot be written"), claims_module.in_turn(tmp_path / "file" / ".lock"):
        pass
