"""The cue job withstands the stress tests, and they find what does not."""

from __future__ import annotations

import contextlib

import pytest

from scripts.torture import damage, kills, program
from scripts.torture.checks import Witness, checksums
from scripts.torture.processes import KILLED, Tortured
from scripts.torture.worker import Orders, job, open_stores

TASKS = 3


@pytest.mark.slow
def test_a_short_torture_finds_nothing(tmp_path):
    of_the_cue_job = ["kills", "steps", "disk", "rights", "shards"]
    report = program.torture(program.Plan(tmp_path, seed=1, kills=20, tasks=30), of_the_cue_job)
    assert report.violations == []
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in str(report).splitlines()[2:]]
    assert [row[0] for row in rows] == [
        "cue job: SIGKILL at random moments",
        "cue job: SIGKILL before every durable call",
        "cue job: full disk",
        "cue job: folder that cannot be written",
        "cue job: flipped bit",
    ]
    assert int(rows[0][2]) >= 20
    # Keys and description of two stores: a write, two fsyncs and a rename each. One task in two stores: four writes,
    # an fsync, a rename, an fsync of the folder, a line appended to the manifest, an fsync.
    assert rows[1][1] == "12 write, 12 half of a write, 14 fsync, 6 rename, 2 append, 2 half of an append"
    assert "disk is full while writing" in rows[2][3]
    assert "cannot be written" in rows[3][3]
    assert rows[4][3].startswith("16 of 16 found")


def test_a_disk_is_full_without_a_mount_too(tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "small_disk", lambda root, size: contextlib.nullcontext(False))
    outcome = damage.fill_the_disk(tmp_path, tasks=10)
    assert outcome.violations == []
    assert "ENOSPC" in outcome.how


def test_a_process_dies_in_the_ordered_call(tmp_path):
    whole = Tortured.start(Orders(tmp_path / "whole", 1)).end()
    assert whole[0] == 0
    assert whole[1].count("append") == 2
    assert Tortured.start(Orders(tmp_path / "dead", 1, die_in_write=6, share=0.5)).end() == (KILLED, None)
    # Writes 1 to 4 are keys and descriptions; the sixth is the second piece of the first shard.
    assert len(list((tmp_path / "dead").rglob(".*.tmp"))) == 1


@pytest.fixture
def witness(tmp_path):
    job(tmp_path, TASKS)
    witness = Witness(tmp_path, checksums(tmp_path))
    assert witness.look_at_the_end() == []
    return witness


def a_shard(root):
    return min(root.glob("*/shards/00001.safetensors"))


def test_the_witness_sees_a_broken_shard_that_is_trusted(witness):
    path = a_shard(witness.root)
    data = bytearray(path.read_bytes())
    data[3000] ^= 4  # neither in the header nor in the last row, which are looked at when a store is opened
    path.write_bytes(data)
    assert "is trusted, but its bytes are not a clean run's" in witness.look()[0]


def test_the_witness_sees_a_lost_shard(witness):
    store = next(iter(open_stores(witness.root, TASKS).values()))
    store.revoke(2)
    assert witness.look() == [f"{store.folder.name}/shards/00002.safetensors was listed before and is not any more"]


def test_the_witness_sees_a_doubled_shard(witness):
    manifest = min(witness.root.glob("*/manifest.jsonl"))
    data = manifest.read_bytes()
    manifest.write_bytes(data + data.splitlines(keepends=True)[0])
    assert "is listed more than once" in witness.look()[0]


def test_the_witness_sees_a_store_that_does_not_open(witness):
    min(witness.root.glob("*/keys.txt")).write_text("other")
    assert "a store does not open" in witness.look()[0]


def test_the_witness_sees_what_is_missing_and_left_over_at_the_end(witness):
    path = a_shard(witness.root)
    path.rename(path.with_name(".00001.safetensors.tmp"))
    found = witness.look_at_the_end()
    assert any(sentence.endswith("00001.safetensors is missing") for sentence in found)
    assert any(sentence.endswith(".tmp was left over") for sentence in found)


@pytest.mark.parametrize(("violations", "code"), [([], 0), (["it broke"], 1)])
def test_a_violation_is_printed_and_is_the_exit_code(tmp_path, monkeypatch, capsys, violations, code):
    report = program.Report()
    report.add("kill", damage.Outcome("how", 3, "outcome", violations), 0.5)
    monkeypatch.setattr(program, "torture", lambda *arguments: report)
    assert program.main(["--kills", "3", "--folder", str(tmp_path / "new")]) == code
    captured = capsys.readouterr()
    assert f"| kill | how | 3 | outcome | {len(violations)} | 0.5 |" in captured.out
    assert captured.err == "".join(f"kill: {violation}\n" for violation in violations)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.slow
def test_a_job_that_is_quicker_than_its_killers_is_killed_in_its_writes_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "_SECONDS_UNTIL_DEATH", 0.0)
    result = kills.RandomKills(tmp_path, tasks=2, kills=9, seed=1).run()
    assert result.violations == []
    assert result.kills >= 9
    assert result.half_in_write


def test_too_few_kills_inside_a_write_are_a_violation():
    outcome = program._of_killings(program.Killings(ordered=1, timed=4, timed_in_write=1))
    assert outcome.violations == ["only 2 of 5 kills certainly fell into a write"]
