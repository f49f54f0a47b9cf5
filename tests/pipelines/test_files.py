"""Writing whole or not at all: a kill between any two steps, a failed rename, a power cut, and what the dead leave."""

from __future__ import annotations

import os
import shutil

import pytest

from pipelines import files
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


def test_leftover_folders_of_the_dead_are_removed_and_of_the_living_kept(tmp_path):
    host, dead = os.uname().nodename, 2**22 + 1
    own = files.temporary_beside(tmp_path / "step_000001").name
    gone = [f".step_000002.{host}.{dead}.00000000.tmp", f".step_000003.{host}.{os.getpid()}.00000000.tmp"]
    living = f".step_000004.{host}.{os.getppid()}.00000000.tmp"
    far, old = ".step_000005.elsewhere.7.00000000.tmp", ".step_000006.elsewhere.7.00000000.tmp"
    for name in (own, *gone, living, far, old):
        writer("half")(tmp_path / name)
    os.utime(tmp_path / old, (0, 0))
    assert remove_stale(tmp_path) == 3
    assert names(tmp_path) == sorted([own, living, far])
    shutil.rmtree(tmp_path)
    assert remove_stale(tmp_path) == 0
