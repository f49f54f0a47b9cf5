"""What `agfas prepare` says of a dataset that it made, and what its exit code means."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.data.leaks import Leaks
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.errors import AgfasError
from pipelines.files import write_json
from pipelines.stages import prepare


@pytest.fixture
def made(tmp_path) -> Path:
    """The files of a dataset of which one picture and one frame were refused."""
    row = {"domain": "d", "label": "bonafide", "attack_type": "none", "train": 1, "dev": 0, "test": 0, "faces": 1}
    write_json(tmp_path / "counts.json", {"counts": [row | {"subjects": 1, "videos": 1}]})
    write_json(tmp_path / "leaks.json", Leaks(faces=9).as_json())
    rows = ["a/b.JPG,,It has no face.", "c.mp4,3,blurred", "d,,d is empty", "e.jpg,,It has no face."]
    (tmp_path / "refused.csv").write_text("path,frame,reason\n" + "\n".join(rows) + "\n")
    return tmp_path


CARD = {
    "counts": {"d/bonafide/none": 5, "d/attack/print": 4}, "faces": 9, "fingerprint": "f", "asked": 200,
    "joined": {"groups": 0, "capped": 0}, "recipe": {"splits": {"largest_group": 0.1}},
    "refused_faces": 2, "filtered_faces": 0, "left_out": 0, "noted": 0, "passed_over": {},
    "sources": {"found": 9, "read": 9, "refused": 0, "passed_over": 0, "beyond_limit": 0},
}  # fmt: skip
LEAKING = Leaks([{"domain": "d", "name": "s", "splits": ["dev", "test"]}], faces=9)


def printed(capsys, made, card, **recipe) -> tuple[list[str], int]:
    code = prepare._print_result(made, PrepareRecipe(**recipe), CARD | card)
    return capsys.readouterr().out.splitlines(), code


def test_a_dataset_is_summed_up_line_by_line(made, capsys):
    lines, code = printed(capsys, made, {})
    assert code == 0
    assert lines[-5:] == [
        "Sources: 9 found: 9 read",
        f"2 of 200 faces were refused (1.0%): {made}/refused.csv",
        "  2 pictures in .jpg: has no face.",
        "  1 files in no ending: is empty",
        f"Dataset: {made} (9 faces, fingerprint f)",
    ]
    assert lines[0].split()[:3] == ["domain", "label", "attack_type"]
    assert lines[2] == "Splits are clean: no subject, video or near-duplicate of 9 faces is in two."
    more = {
        "filtered_faces": 3, "left_out": 4, "noted": 5, "passed_over": {"x": 2, "y": 1},
        "sources": {"found": 20, "read": 0, "refused": 7, "passed_over": 8, "beyond_limit": 5},
    }  # fmt: skip
    lines, code = printed(capsys, made, more)
    assert code == 0
    assert "Sources: 20 found: 0 read, 7 refused, 8 passed over, 5 beyond --limit" in lines
    assert lines[-5:] == [
        "3 sound faces are beyond the limits of pose or quality, listed there too",
        f"4 faces were left out for the ratio: {made}/left_out.csv",
        f"5 files were not read whole, such as animations and cut videos: {made}/noted.csv",
        f"3 files and links are passed over: {made}/passed_over.csv",
        f"Dataset: {made} (9 faces, fingerprint f)",
    ]
    older = {name: value for name, value in CARD.items() if name != "sources"}
    assert prepare._print_result(made, PrepareRecipe(), older) == 0
    assert "Sources" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("card", "recipe", "code", "last"),
    [
        ({"faces": 0}, {}, 1, "No face came through, so there is no dataset to work with and the exit code is 1: read"),
        ({"refused_faces": 3}, {}, 1, "That is more than --max-refused 0.01, so the exit code is 1. The dataset is"),
        ({"refused_faces": 3}, {"max_refused": 0.015}, 0, "Dataset: "),
        (
            {"repeats": {"both_classes": 2, "faces_in_both": 3}},
            {},
            1,
            "2 pictures are both bona fide and attack (33.3% of the faces, more than --max-refused 0.01), so the exit",
        ),
        ({"counts": {"d/bonafide/none": 5}}, {}, 0, "All faces are bona fide: enough to train a generator, not a"),
        ({"counts": {"d/e/attack/print": 5}}, {}, 0, "All faces are attacks: no generator and no detector can be"),
    ],
)
def test_the_last_line_says_what_the_exit_code_means(made, capsys, monkeypatch, card, recipe, code, last):
    monkeypatch.setattr(prepare, "repeat_sentences", lambda repeats: [])
    lines, found = printed(capsys, made, card, **recipe)
    assert found == code
    assert lines[-1].startswith(last)


@pytest.mark.parametrize("allowed", [True, False])
def test_splits_that_leak_are_an_exit_code(made, capsys, allowed):
    write_json(made / "leaks.json", LEAKING.as_json())
    lines, code = printed(capsys, made, {}, allow_leaks=allowed)
    assert code == (0 if allowed else 1)
    assert any(line.startswith("SPLITS LEAK: 1 subjects, 0 videos") for line in lines)
    leak = "Splits leak, so the exit code is 1: error rates on this dataset would be too low."
    assert lines[-1].startswith("Dataset: " if allowed else leak)


def test_the_most_frequent_reasons_are_shown():
    found = [(f"{number}.png", f"reason {number % 5}") for number in range(12)]
    assert prepare.groups(found) == [f"  3 pictures in .png: reason {number}" for number in (0, 1)] + [
        "  2 pictures in .png: reason 2"
    ]
    assert prepare.groups([("a.MP4", "a.MP4 It is short"), ("b.zip", "x")]) == [
        "  1 videos in .mp4: is short",
        "  1 files in .zip: x",
    ]


@pytest.mark.parametrize(("missing", "allowed", "made"), [(0, False, True), (1, False, False), (1, True, True)])
def test_an_incomplete_copy_is_not_prepared_unless_accepted(monkeypatch, capsys, tmp_path, missing, allowed, made):
    picture, video = (SimpleNamespace(is_video=is_video) for is_video in (False, True))
    unreadable = [SimpleNamespace(path="a.jpg", reason="It has no reader.")]
    passed = [("x", ".txt, ignored by the importer"), ("y", ".txt, ignored by the importer"), ("z", "a link")]
    sources = SimpleNamespace(
        importer=SimpleNamespace(TITLE="A set", __name__="a_set"), faces=[picture, picture, video], counts=["counted"],
        unreadable=unreadable, passed_over=passed, missing=missing,
    )  # fmt: skip
    seen = []
    monkeypatch.setattr(prepare, "find_sources", lambda source, recipe: sources)
    monkeypatch.setattr(prepare, "expectation", lambda count: f"{count}!")
    monkeypatch.setattr(prepare, "open_job", lambda *given: seen.append(given) or "a job")
    monkeypatch.setattr(prepare, "run_job", lambda job: f"the card of {job}")
    monkeypatch.setattr(prepare, "_print_result", lambda *given: seen.append(given) or 0)
    recipe = PrepareRecipe(allow_missing=allowed)
    assert prepare.run(Path("in"), tmp_path, recipe, "factory") == (0 if made else 1)
    lines = [
        "A set: 2 pictures, 1 videos", "  counted!", "  1 pictures in .jpg: has no reader.",
        "  3 other files and links are passed over: 2 .txt, 1 a link",
    ]  # fmt: skip
    ended = [] if made else ["Nothing was made. Complete the copy, or accept it with --allow-missing."]
    assert capsys.readouterr().out.splitlines() == lines + ended
    done = [(Path("in"), tmp_path, recipe, sources, "factory"), (tmp_path, recipe, "the card of a job")]
    assert seen == (done if made else [])


def test_a_recipe_is_of_a_file_and_of_the_command_line(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("size: 64\nframes: 3\nimporter: csv\n")
    found = prepare.read_recipe(path, {"size": 32, "domain": None}, ["live= 0 ", "attack=[a, b]"])
    assert (found.size, found.frames, found.importer) == (32, 3, "csv")
    assert found.options == {"live": 0, "attack": ["a", "b"]}
    assert prepare.read_recipe(None, {}, []) == PrepareRecipe()
    with pytest.raises(AgfasError, match=r"'live' is not an option of an importer\. Write --option key=value\."):
        prepare.read_recipe(None, {}, ["live"])
    with pytest.raises(AgfasError, match=r"^In the override '--min-score x': 'min_score' = 'x'"):
        prepare.read_recipe(None, {"min_score": "x"}, [])
    path.write_text("frames: 0\n")
    with pytest.raises(AgfasError, match=rf"In {path}: 'frames' = 0"):
        prepare.read_recipe(path, {}, [])
    with pytest.raises(AgfasError, match="No recipe at nowhere"):
        prepare.read_recipe(Path("nowhere"), {}, [])
