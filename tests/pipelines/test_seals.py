"""Checksums: a flipped bit, a cut, emptied, missing, added or exchanged file is one sentence that names it."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress

import pytest

from dfg import seals as library
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json
from pipelines.seals import SEAL_NAME, check, seal, write_sealed


def write(folder):
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "README.md").write_text("a card")


@pytest.fixture
def artefact(tmp_path):
    write_sealed(tmp_path / "artefact", write)
    check(tmp_path / "artefact")
    return tmp_path / "artefact"


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


DAMAGES = {
    "checksum differs": lambda folder: flip(folder / "part" / "weights.bin", 700),
    "length differs": lambda folder: os.truncate(folder / "part" / "weights.bin", 100),
    "weights.bin is not": lambda folder: (folder / "part" / "weights.bin").write_bytes(b""),
    "missing": lambda folder: (folder / "config.json").unlink(),
    "incomplete": lambda folder: shutil.rmtree(folder / "part"),
    "was not there": lambda folder: (folder / "part" / "more.bin").write_bytes(b"x"),
    "is damaged": lambda folder: (folder / SEAL_NAME).write_text('{"files": {"config.json": 3}}'),
    "inside the folder": lambda folder: (folder / SEAL_NAME).write_text(
        '{"files": {"../x": {"bytes": 0, "sha256": ""}}}'
    ),
}


@pytest.mark.parametrize("words", DAMAGES)
def test_what_is_not_what_was_written_is_named(artefact, words):
    DAMAGES[words](artefact)
    with pytest.raises(AgfasError, match=words) as error:
        check(artefact)
    assert str(artefact) in str(error.value)
    assert "\n" not in str(error.value)


def test_one_file_is_compared_with_the_checksums_above_it(artefact):
    flip(artefact / "config.json", 3)
    check(artefact / "part" / "weights.bin")
    check(artefact / "part")
    with pytest.raises(AgfasError, match=r"config\.json is not what was written"):
        check(artefact / "config.json")
    (artefact / "part" / "weights.bin").unlink()
    with pytest.raises(AgfasError, match=r"weights\.bin is missing"):
        check(artefact / "part" / "weights.bin")


def test_every_bit_of_the_checksums_decides_or_changes_nothing(artefact):
    whole = (artefact / SEAL_NAME).read_bytes()
    noticed = 0
    for place in range(0, 8 * len(whole), 13):
        (artefact / SEAL_NAME).write_bytes(whole)
        flip(artefact / SEAL_NAME, place)
        try:
            check(artefact)
        except AgfasError:
            noticed += 1
    assert noticed > 0.5 * 8 * len(whole) / 13


def test_cards_and_hidden_files_may_change(artefact):
    (artefact / "README.md").write_text("an edited card")
    (artefact / ".gitattributes").write_text("*.bin lfs")
    check(artefact)


def test_without_checksums_or_with_those_of_another_program_nothing_is_checked(tmp_path):
    write(tmp_path / "artefact")
    check(tmp_path / "artefact")
    (tmp_path / SEAL_NAME).write_text('{"files": {"else": {"bytes": 1, "sha256": ""}}}')
    check(tmp_path / "artefact" / "config.json")
    (tmp_path / "artefact" / SEAL_NAME).write_text('{"weights.bin": "md5"}')
    check(tmp_path / "artefact")


def test_a_file_is_read_once_while_it_stays_the_same(artefact, monkeypatch):
    later = time.time_ns() + 10**10
    monkeypatch.setattr(library.time, "time_ns", lambda: later)
    check(artefact)
    monkeypatch.setattr(library.hashlib, "sha256", None)
    check(artefact)


def test_a_change_within_a_tick_of_the_clock_is_noticed(artefact):
    weights = artefact / "part" / "weights.bin"
    times = weights.stat()
    flip(weights, 9)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(AgfasError, match="checksum differs"):
        check(artefact)


def test_a_json_file_carries_its_checksum(tmp_path):
    path, value = tmp_path / "done.json", {"steps": 3, "rate": 0.1, "folds": ["a"], "by": {2: None}}
    write_json(path, value)
    assert read_json(path) == json.loads(json.dumps(value))
    text = path.read_bytes()
    for place in range(0, 8 * len(text), 13):
        path.write_bytes(text)
        flip(path, place)
        with suppress(AgfasError):
            read = read_json(path)
            assert {key: read.get(key) for key in value} == json.loads(json.dumps(value))


@pytest.mark.parametrize("text", ["[" * 10_000 + "]" * 10_000, "1" * 5000, '{"a": }', "\udcff"])
def test_text_that_is_no_json_is_one_sentence(tmp_path, text):
    (tmp_path / "plan.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(AgfasError, match=r"plan\.json is not valid JSON"):
        read_json(tmp_path / "plan.json")


def test_seal_again_after_a_change(artefact):
    flip(artefact / "config.json", 3)
    seal(artefact)
    check(artefact)
