"""What source files hold: hashes that anyone can compute again."""

from __future__ import annotations

import hashlib
import json
import os

from pipelines.data.contents import content_hashes, files_below, folder_hash, stamp


def test_hashes_are_of_the_bytes_and_what_is_no_file_has_a_word(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("a")
    names = ("a", "empty", "folder", "gone", "link")
    one, empty = (hashlib.sha256(content).hexdigest() for content in (b"one", b""))
    missing = "unreadable: No such file or directory"
    assert content_hashes([tmp_path / name for name in names]) == [one, empty, "no regular file", missing, one]
    assert content_hashes([]) == []


def test_a_folder_is_its_names_and_bytes_without_what_is_hidden(tmp_path):
    inside, beside = tmp_path / "in", tmp_path / "beside"
    for file, content in ((inside / "b" / "1.png", b"x"), (inside / "a.png", b"y"), (beside / "c.png", b"z")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (inside / "far").symlink_to(beside)
    (inside / "far" / "up").symlink_to(inside)
    before = folder_hash(inside)
    names = ["a.png", "b/1.png", "far/c.png"]
    assert [file.relative_to(inside).as_posix() for file in files_below(inside)] == names
    pairs = [
        [name, hashlib.sha256(content).hexdigest()] for name, content in zip(names, (b"y", b"x", b"z"), strict=True)
    ]
    assert before == hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()
    (inside / ".hidden").write_bytes(b"1")
    (inside / ".cache").mkdir()
    (inside / ".cache" / "2.png").write_bytes(b"2")
    assert folder_hash(inside) == before
    (inside / "b" / "2.png").write_bytes(b"2")
    assert folder_hash(inside) != before


def test_a_stamp_is_of_the_link_and_not_of_its_goal(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        found = os.lstat(tmp_path / name)
        assert stamp(tmp_path / name) == (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    assert stamp(tmp_path / "gone") == ()
