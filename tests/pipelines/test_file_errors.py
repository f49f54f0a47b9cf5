"""A failing or full disk is a sentence with the file and the space, whatever library met it."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from pipelines import files
from pipelines.cues.manifest import Manifest
from pipelines.errors import AgfasError
from pipelines.files import write_atomically


def failing(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_failing_disk_is_told_with_the_file_that_was_written(tmp_path, monkeypatch):
    path = tmp_path / "card.json"
    write_atomically(path, lambda temporary: temporary.write_text("old"))
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(AgfasError, match=r"card\.json\S* cannot be read or written \(Input/output error\): nothing"):
        write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["card.json"]


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


def test_a_file_that_fails_below_its_object_has_a_name(tmp_path, monkeypatch):
    manifest = Manifest(tmp_path / "manifest.jsonl")
    manifest.path.write_text("")
    stream = io.BytesIO()
    monkeypatch.setattr(Path, "open", lambda *_, **__: stream)
    stream.seek = failing
    with pytest.raises(OSError, match="Input") as caught:
        manifest.refresh()
    assert files.file_of(caught.value) == manifest.path


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
    assert os.listdir(tmp_path) == []
    assert files.as_os_error(ValueError("a shape is wrong")) is None


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("ENOSPC", "The disk is full while writing out/a: nothing already made is lost, free some space and run again"),
        ("EDQUOT", "The disk is full while writing out/a: "),
        ("EACCES", "out/a cannot be written (Permission denied): nothing already made is lost. Allow writing there or"),
        ("EPERM", "out/a cannot be written ("),
        ("EROFS", "out/a cannot be written ("),
        ("ENOTDIR", "out/a cannot be written ("),
        ("EEXIST", "out/a cannot be written ("),
        ("EIO", "out/a cannot be read or written (Input/output error): nothing already made is lost. Check the disk"),
        ("ENXIO", "out/a cannot be read or written ("),
        ("ENODEV", "out/a cannot be read or written ("),
        ("ESTALE", "out/a cannot be read or written ("),
        ("EREMOTEIO", "out/a cannot be read or written ("),
        ("ENAMETOOLONG", "out/a cannot be written: its name is too long for this file system. Choose a shorter one."),
        ("ENOENT", None),
        ("EINTR", None),
    ],
)
def test_an_error_of_the_system_is_a_sentence_if_its_cause_is_known(number, words):
    code = getattr(errno, number)
    error = OSError(code, os.strerror(code))
    found = files.explain_os_error(error, Path("out/a"))
    if words is None:
        assert found is error
    else:
        assert isinstance(found, AgfasError)
        assert str(found).startswith(words)
        found = files.as_os_error(RuntimeError(f"while serializing (os error {code})"))
        assert (found.errno, found.strerror) == (code, os.strerror(code))
    assert files.as_os_error(error) is error


@pytest.mark.parametrize(("count", "megabytes"), [(1, 1), (2**20, 1), (2**20 + 1, 2)])
def test_a_full_disk_is_told_with_the_space_that_is_needed(tmp_path, count, megabytes):
    with (
        pytest.raises(AgfasError, match=rf"is lost, free {megabytes} MB and run again\."),
        files.explained_errors(tmp_path, count),
    ):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(ZeroDivisionError), files.explained_errors(tmp_path):
        raise ZeroDivisionError


def test_the_file_of_an_error_is_the_one_it_names_or_the_one_in_hand(tmp_path):
    assert files.file_of(OSError(errno.EIO, "x", b"/a/\xff")) == Path(os.fsdecode(b"/a/\xff"))
    assert files.file_of(OSError(errno.EIO, "x")) is None

    def outer(folder):
        def inner(place, other):
            raise OSError(errno.EIO, "x")

        inner(folder / "b", folder / "c")

    with pytest.raises(OSError, match="x") as caught:
        outer(tmp_path)
    assert files.file_of(caught.value) == tmp_path / "b"


def test_a_cause_of_a_cause_is_of_the_disk():
    error, cause = AgfasError("a"), ValueError("b")
    error.__cause__, cause.__context__ = cause, OSError(errno.EIO, "x")
    error.__context__ = ValueError("c")
    assert files.is_of_the_disk(error)
    assert not files.is_of_the_disk(None)
    assert not files.is_of_the_disk(ValueError("x"))
