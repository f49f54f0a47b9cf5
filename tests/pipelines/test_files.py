"""Writing whole or not at all: a kill between any two steps, a failed rename, a power cut, and what the dead leave."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
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


def test_locks_leave_neither_files_nor_descriptors_and_names_may_be_long(tmp_path, left_open):
    path = tmp_path / ("ü" * 120 + ".json")
    for text in "ab":
        files.write_text(path, text)
    assert names(tmp_path) == [path.name]
    assert left_open() == []


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


def test_lines_are_appended_and_one_that_was_torn_stays_alone(tmp_path, monkeypatch, left_open):
    path = tmp_path / "manifest"
    files.append_line(path, b"one")
    files.append_line(path, b"two")
    with path.open("ab") as stream:
        stream.write(b"to")
    files.append_line(path, b"three")
    assert path.read_bytes() == b"one\ntwo\nto\nthree\n"
    assert path.stat().st_mode & 0o111 == 0
    monkeypatch.setattr(files.os, "write", lambda descriptor, data: len(data) - 1)
    with pytest.raises(OSError, match="No space left"):
        files.append_line(path, b"four")
    assert left_open() == []


def test_pieces_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path, synced = tmp_path / "shard", []
    fsync, write = os.fsync, os.write
    monkeypatch.setattr(files.os, "fsync", lambda file: (synced.append(os.fstat(file).st_ino), fsync(file)))
    monkeypatch.setattr(files.os, "write", lambda file, data: write(file, data[:3]))  # a few bytes at a time
    files.write_whole(path, [b"abcdefgh", memoryview(np.arange(3, dtype=np.int16))])
    assert path.read_bytes() == b"abcdefgh" + np.arange(3, dtype=np.int16).tobytes()
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]

    def broken():
        yield b"half"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        files.write_whole(path, broken())
    assert path.stat().st_size == 14
    with files.written(tmp_path / "never", [b"x"]) as temporary:
        assert temporary.read_bytes() == b"x"
    assert names(tmp_path) == ["shard"]


def test_rows_are_text(tmp_path):
    assert files.csv_text([{"a": 1, "b": "x,y"}, {"a": 2, "b": None}]) == 'a,b\n1,"x,y"\n2,\n'
    assert files.csv_text([], ["a", "b"]) == "a,b\n"
    files.write_text(tmp_path / "a" / "b.txt", "ü\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "ü\n".encode()


def test_json_is_sorted_indented_and_sealed_and_its_entries_are_checked(tmp_path):
    path = tmp_path / "done.json"
    files.write_json(path, {"b": Path("x"), "a": [1]})
    digest = hashlib.sha256(b'{"a":[1],"b":"x"}').hexdigest()
    assert path.read_text() == f'{{\n  "_sha256": "{digest}",\n  "a": [\n    1\n  ],\n  "b": "x"\n}}\n'
    assert files.read_json(path, a=list, b=(str, int)) == {"a": [1], "b": "x"}
    for kinds in ({"a": dict}, {"c": list}):
        (name,) = kinds
        with pytest.raises(AgfasError, match=rf"done\.json holds no '{name}', or one of another kind .* Remove it, or"):
            files.read_json(path, **kinds)
    path.write_text(path.read_text().replace('"x"', '"y"'))
    with pytest.raises(AgfasError, match=r"its checksum differs\).*if the change is yours, remove the line _sha256\."):
        files.read_json(path)
    files.write_json(path, [3])
    assert path.read_text() == "[\n  3\n]\n"
    assert files.read_json(path) == [3]
    with pytest.raises(AgfasError, match="holds no 'a'"):
        files.read_json(path, a=int)


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    files._remove(tmp_path / "link")
    files._remove(tmp_path / "absent")
    assert names(tmp_path) == ["kept"]


def test_folders_are_made_and_tidied_once(tmp_path, monkeypatch):
    tidied = []
    monkeypatch.setattr(files, "remove_stale", tidied.append)
    for _ in range(2):
        files.write_text(tmp_path / "deep" / "er" / "a", "x")
    assert tidied == [tmp_path / "deep" / "er"]
