"""From finished tasks to the finished folder: where every source went, and what a job asks of its output."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from prepare_stubs import SquareDetector, finished, record

from pipelines.data.importers.layout import Expected, VideoCount
from pipelines.data.importers.source import SourceFace
from pipelines.data.intact import check_all
from pipelines.data.leaks import Leaks
from pipelines.data.prepare import job as job_module
from pipelines.data.prepare import result as result_module
from pipelines.data.prepare.card import versions
from pipelines.data.prepare.job import Job, cut_tasks, open_job
from pipelines.data.prepare.result import accounted, assemble, contradicted_share, refused_share
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import Noted, Refusal, Sources
from pipelines.data.records import read_card
from pipelines.errors import AgfasError
from pipelines.files import read_json, write_json


def sources(*names: str, unreadable=(), passed_over=(), beyond=0) -> Sources:
    faces = [SourceFace(Path(name), "d", "none", name, name) for name in names]
    return Sources(
        faces, [""] * len(faces), list(names), [], list(unreadable), list(passed_over), result_module, beyond
    )


def refusal(path: str, **other) -> Refusal:
    return Refusal(path, -1, "why", "the picture", **other)


def test_every_source_is_accounted_for():
    given = sources("a", "b", "c", "d", unreadable=[refusal("x")], passed_over=[("y", "z")] * 3, beyond=5)
    account = accounted(["a", "a", "c"], [refusal("b"), refusal("c"), refusal("d")], given)
    assert account == {"found": 13, "read": 2, "refused": 3, "passed_over": 3, "beyond_limit": 5}
    with pytest.raises(AgfasError, match=r"^2 of 4 sources gave neither .*, the first is c\. That is a fault"):
        accounted(["a"], [refusal("b")], given)


def test_faces_and_refusals_are_summed_up():
    lines = [refusal("a", lost=10), refusal("b"), refusal("c", filtered=True), refusal("d", lost=3, filtered=True)]
    result = result_module._Result(
        {"key": ["k"] * 5}, lines, [Noted("a", "n")] * 2, ["x"] * 7, Leaks(), SimpleNamespace(), {}
    )
    assert result.totals() == {
        **{"faces": 5, "asked": 5 + 7 + 11 + 4, "refused": 4, "refused_faces": 11, "filtered_faces": 4},
        **{"left_out": 7, "noted": 2},
    }


@pytest.mark.parametrize(
    ("card", "share"),
    [
        ({"faces": 1, "asked": 4, "refused_faces": 1}, 0.25),
        ({"faces": 0, "asked": 4, "refused_faces": 1}, 1.0),
        ({"faces": 1, "asked": 1, "refused_faces": 0}, 0.0),
    ],
)
def test_the_share_that_was_refused(card, share):
    assert refused_share(card) == share


def test_the_share_in_both_classes():
    assert contradicted_share({"faces": 8, "repeats": {"faces_in_both": 2}}) == 0.25
    assert contradicted_share({"faces": 0, "repeats": {"faces_in_both": 0}}) == 0.0
    assert contradicted_share({"faces": 8, "repeats": {}}) == contradicted_share({"faces": 8}) == 0.0


def test_the_card_is_published_last_and_what_it_says_is_on_the_disk(tmp_path, monkeypatch):
    stage, out = tmp_path / "stage", tmp_path / "out"
    names = ["README.md", "data-0.arrow", "face_dataset.json", "sums.json", "zebra.csv"]
    for folder in (stage, out):
        folder.mkdir()
    for name in names:
        (stage / name).write_text(name)
    done = []
    monkeypatch.setattr(result_module, "sync_file", lambda path: done.append(f"file {path.name}"))
    monkeypatch.setattr(result_module, "sync_folder", lambda path: done.append(sorted(p.name for p in path.iterdir())))
    result_module._publish(stage, out)
    others = [name for name in names if name != "face_dataset.json"]
    assert done == [*(f"file {name}" for name in others), "file face_dataset.json", others, names]
    assert [(out / name).read_text() for name in names] == names


def test_the_signatures_of_faces():
    hashes, thumbnails = result_module._signatures({"hash": [2**63, 1], "thumbnail": [bytes(256), bytes([7]) * 256]})
    assert (hashes.dtype, thumbnails.dtype) == (np.uint64, np.uint8)
    assert hashes.tolist() == [2**63, 1]
    assert thumbnails.tolist() == [[0] * 256, [7] * 256]
    assert result_module._signatures({"hash": [], "thumbnail": []})[1].shape == (0, 256)


def test_near_duplicates_are_joined_where_persons_are_unknown(monkeypatch):
    columns = {
        **{"subject_known": [True, False], "hash": [1, 1], "thumbnail": [bytes(256)] * 2, "split": ["train", "dev"]},
        **{"domain": ["d", "d"], "subject": ["s", "t"], "source": ["a", "b"]},
    }
    asked = []

    def join(given, hashes, thumbnails, largest):
        asked.append((hashes.tolist(), thumbnails.shape, largest))
        return SimpleNamespace(heads={("d", "t"): ("d", "s")} if largest == 0.25 else {})

    monkeypatch.setattr(result_module, "join_near_duplicates", join)
    again = {("d", "s", "a"): "test", ("d", "t", "b"): "dev"}
    monkeypatch.setattr(result_module, "assign_again", lambda given, recipe, heads: again if heads else {})
    for splits in ({"join_near_duplicates": False}, {}, {"largest_group": 0.25}):
        result_module._join(columns, PrepareRecipe(splits=splits), sources("a", "b"))
        assert columns["split"] == (["test", "dev"] if "largest_group" in splits else ["train", "dev"])
    assert asked == [([1, 1], (2, 256), 0.5), ([1, 1], (2, 256), 0.25)]
    columns["subject_known"] = [True, True]
    result_module._join(columns, PrepareRecipe(), sources("a", "b"))
    assert len(asked) == 2


FACTS = {
    **{"identity": "i", "recipe": PrepareRecipe().of_the_result(), "recipe_hash": "h", "recipe_version": 5},
    **{"models": {"detector": None}, "source": "in"},
}
CARD = [
    *("fingerprint", "kind", *FACTS, "versions", "title", "citation", "licence", "verified", "size"),
    *("faces", "asked", "refused", "refused_faces", "filtered_faces", "left_out", "noted"),
    *("passed_over", "subjects_unknown", "splits_clean", "joined", "repeats", "sources", "counts"),
]


def test_the_folder_of_a_finished_job(tmp_path):
    """Five sources: one face is left out for the ratio, one source refused, and one frame beyond a limit."""
    refusals = [refusal("r.png"), Refusal("f.mp4", 3, "turned", "frame, 3", 1, True)]
    tasks = [[record(0), record(1)], [record(2, quality=0.125)]]
    files = finished(tmp_path / ".work" / "i", *tasks).files
    files.finish(0, {"refused": refusals, "noted": [Noted("0.png", "two pages")]})
    given = sources(
        "0.png", "1.png", "2.png", "r.png", "f.mp4", unreadable=[refusal("x")], passed_over=[("n", "ignored")]
    )
    given.counts.append(VideoCount(Expected(1, 70), 68))
    importer = SimpleNamespace(TITLE="T", CITATION="C", LICENCE="L", VERIFIED="V", __name__="m")
    card = assemble(files, 2, tmp_path, PrepareRecipe(ratio=1, size=32), replace(given, importer=importer), FACTS)
    assert list(card) == CARD
    totals = {"faces": 2, "asked": 6, "refused": 3, "refused_faces": 2, "filtered_faces": 1, "left_out": 1, "noted": 1}
    account = {"found": 7, "read": 3, "refused": 3, "passed_over": 1, "beyond_limit": 0}
    repeats = {"both_classes": 0, "faces_in_both": 0, "repeated": 0}
    wanted = {
        **{"kind": "prepared", "title": "T", "citation": "C", "licence": "L", "verified": "V", "size": 32, **FACTS},
        **{**totals, "passed_over": {"ignored": 1}, "subjects_unknown": 0, "splits_clean": True, "sources": account},
        **{"counts": {"d/attack/train": 1, "d/bonafide/train": 1}, "repeats": repeats, "versions": versions()},
        "joined": {"subjects": 0, "groups": 0, "largest": 0, "largest_share": 0.0, "capped": False},
    }
    assert {name: value for name, value in card.items() if name != "fingerprint"} == wanted
    assert read_card(tmp_path) == card
    expected = {"label": 1, "videos": 70, "splits": [], "attack_type": None, "what": "", "found": 68, "missing": 2}
    counts = read_json(tmp_path / "counts.json")
    rows = counts.pop("counts")
    assert [(row["label"], row["faces"]) for row in rows] == [("bonafide", 1), ("attack", 1)]
    assert counts == {
        **{"expected": [expected], "passed_over": {"ignored": 1}, **totals, "sources": account, "repeats": repeats}
    }
    leaks = read_json(tmp_path / "leaks.json")
    assert (leaks["fingerprint"], leaks["faces"], leaks["clean"]) == (card["fingerprint"], 2, True)
    texts = {path.name: path.read_text() for path in tmp_path.glob("*.csv")}
    assert texts == {
        "refused.csv": "path,frame,reason,tried\nx,,why,the picture\nr.png,,why,the picture\n"
        'f.mp4,3,turned,"frame, 3"\n',
        "noted.csv": "path,note\n0.png,two pages\n",
        "left_out.csv": "key\nd/s/v/002\n",
        "passed_over.csv": "path,reason\nn,ignored\n",
    }
    text = (tmp_path / "README.md").read_text()
    for line in (
        *("- bona fide: 68 of 70 videos, 2 MISSING", "| d | bonafide | none | 1 | 0 | 0 | 1 | 1 | 1 |"),
        "Splits are clean: no subject, video or near-duplicate of 2 faces is in two.",
    ):
        assert line in text.splitlines()
    check_all(tmp_path)


def test_a_job_without_lists_and_an_importer_without_words(tmp_path):
    files = finished(tmp_path / ".work" / "i", [record(0)]).files
    (files.folder / "dataset").mkdir()
    (files.folder / "dataset" / "rubbish.csv").write_text("of an interrupted run")
    given = replace(sources("0.png"), importer=SimpleNamespace(__name__="mine"))
    card = assemble(files, 1, tmp_path, PrepareRecipe(), given, FACTS)
    names = ("title", "citation", "licence", "verified", "faces", "left_out")
    assert [card[name] for name in names] == ["mine", "", "", "unknown", 1, 0]
    assert [path.name for path in tmp_path.glob("*.csv")] == ["refused.csv"]


# The job


def pictures(*suffixes: str) -> list[SourceFace]:
    return [SourceFace(Path(f"{n}.{suffix}"), "d", "none", "s", "v", n) for n, suffix in enumerate(suffixes)]


@pytest.mark.parametrize(
    ("suffixes", "frames", "lengths"),
    [
        (["png"] * 65, 10, [64, 1]),
        (["png"] * 64, 10, [64]),
        (["png"] * 54 + ["mp4", "png"], 10, [55, 1]),
        (["png"] * 55 + ["mp4"] * 2 + ["png"] * 50, 10, [55, 46, 6]),
        (["png", "mp4", "png", "mp4"], 100, [1, 1, 1, 1]),
        (["mp4", "png"], 64, [1, 1]),
        ([], 10, []),
    ],
)
def test_tasks_have_at_most_64_expected_faces(suffixes, frames, lengths):
    faces = pictures(*suffixes)
    tasks = cut_tasks(faces, PrepareRecipe(frames=frames))
    assert [len(task) for task in tasks] == lengths
    assert [face for task in tasks for face in task] == faces


def job_of(source: Path, out: Path, **recipe) -> Job:
    return open_job(source, out, PrepareRecipe(**recipe), sources("a.png"), SquareDetector)


def test_what_decides_a_dataset(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(job_module, "fingerprint", lambda value: asked.append(value) or f"hash {len(asked)}")
    monkeypatch.setattr(job_module, "listing", lambda faces, held, source: [[*held.values()], source.name])
    job = job_of(tmp_path, Path("/elsewhere/out"), size=64)
    models = {"detector": {"detector": "squares"}, "parser": None}
    recipe = PrepareRecipe(size=64).of_the_result()
    assert job.identity() == "hash 1"
    facts = job.facts("an identity")
    assert asked == [
        {
            "version": 5,
            "recipe": recipe,
            "models": models,
            "versions": versions(),
            "sources": [["unreadable: No such file or directory"], tmp_path.name],
        },
        [5, recipe, models],
    ]
    assert facts == {
        **{"identity": "an identity", "recipe": recipe, "recipe_hash": "hash 2", "recipe_version": 5, "models": models},
        "source": tmp_path.name,
    }
    assert job_of(Path("user/name"), Path("/elsewhere/out")).facts("")["source"] == "user/name"


def test_which_outputs_a_job_may_write_to(tmp_path):
    def asked(name: str):
        return job_module._finished(tmp_path / name, "mine")

    for name in ("empty", "begun/.work", "done", "other", "full/x", "tricked"):
        (tmp_path / name).mkdir(parents=True)
    write_json(tmp_path / "done" / "face_dataset.json", {"identity": "mine", "fingerprint": "f"})
    write_json(tmp_path / "other" / "face_dataset.json", {"identity": "theirs", "fingerprint": "f"})
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    (tmp_path / "tricked" / ".work").symlink_to(tmp_path / "empty")
    assert [asked(name) for name in ("absent", "empty", "begun")] == [None] * 3
    assert asked("done") == {"identity": "mine", "fingerprint": "f"}
    for name, message in {
        "other": "holds a dataset of another recipe or other sources. Name another --out, or remove it.",
        "full": "holds something else. Name another folder with --out, or empty it.",
        "tricked": "holds something else. Name another folder with --out, or empty it.",
        "file": "is a file, not a folder. Name another --out.",
        "link": "is a link, not a folder. Name another --out.",
        "broken": "is a link, not a folder. Name another --out.",
    }.items():
        with pytest.raises(AgfasError) as caught:
            asked(name)
        assert str(caught.value) == f"{tmp_path / name} {message}"


@pytest.mark.parametrize(
    ("given", "cores", "used"), [(3, 4, 3), (None, 4, 4), (None, 64, 8), (None, None, 1), (20, 4, 20)]
)
def test_unfinished_tasks_are_done_by_so_many_processes(tmp_path, monkeypatch, given, cores, used):
    seen, bars = [], []

    class Pool:
        def __init__(self, setup, workers, describe) -> None:
            seen.append((setup.args[2:], workers, describe(faces[0])))

        def run(self, missing):
            seen.append([(number, len(task)) for number, task in missing])
            yield from (1, 3)

    class Bar:
        def __init__(self, total, what, initial, unit) -> None:
            bars.append((total, what, initial, unit))
            self.n = initial

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None:
            bars.append(self.n)

        def update(self, more) -> None:
            self.n += more

    faces = [SourceFace(tmp_path / "in" / f"{n}.png", "d", "none", "s", "v", n) for n in range(6)]
    (tmp_path / "in").mkdir()
    job = job_of(tmp_path / "in", tmp_path / "out", workers=given)
    job.sources.faces[:] = faces
    monkeypatch.setattr(job_module, "Pool", Pool)
    monkeypatch.setattr(job_module, "bar", Bar)
    monkeypatch.setattr(job_module.os, "cpu_count", lambda: cores)
    files = SimpleNamespace(folder=tmp_path / "work", is_done=lambda number: number == 1)
    job_module._make_tasks(job, files, [faces[:1], faces[1:4], faces[4:]])
    assert seen == [((tmp_path / "in", tmp_path / "work"), used, "0.png"), [(0, 1), (2, 2)]]
    assert bars == [(6, "prepare", 3, "source"), 6]


def test_a_job_reads_the_times_of_its_files_and_of_the_folder_of_its_rows(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    for name in ("set/rows.arrow", "a.png"):
        (tmp_path / name).write_text("")
    asked: Counter = Counter()
    monkeypatch.setattr(job_module, "stamp", lambda path: (asked.update([path.name]),))
    file = SourceFace(tmp_path / "a.png", "d", "none", "s", "v")
    row = SourceFace(tmp_path / "set", "d", "none", "s", "v", row=0)
    for source, faces, names in (
        *((tmp_path / "set", [row], ["rows.arrow"]), (tmp_path / "set@train", [row], ["rows.arrow"])),
        *((tmp_path / "set", [file], ["a.png"]), (tmp_path / "set", [file, row], ["rows.arrow", "a.png"])),
        (Path("user/name"), [row], []),
    ):
        asked.clear()
        stamps = job_module._stamps(SimpleNamespace(source=source, sources=SimpleNamespace(faces=faces)))
        assert (sorted(asked), len(stamps)) == (sorted(names), len(names))
