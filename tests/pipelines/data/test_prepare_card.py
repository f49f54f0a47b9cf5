"""Counts and cards of a prepared dataset, as people read them."""

from __future__ import annotations

import platform

from huggingface_hub import DatasetCard

from pipelines.data.importers.layout import Expected, VideoCount
from pipelines.data.prepare import card

FILES = "data-*.arrow"
COLUMNS = {
    "domain": ["b", "a", "a", "a", "a", "a"],
    "label": [1, 0, 1, 0, 1, 0],
    "attack_type": ["none", "print", "none", "mask", "none", "print"],
    "split": ["test", "train", "dev", "train", "dev", "test"],
    "subject": ["s", "s", "s", "s", "t", "t"],
    "video": ["v", "v", "w", "x", "w", "v"],
}


def test_faces_are_counted_by_domain_label_and_attack_type():
    rows = card.count_faces(COLUMNS)
    names = ("domain", "label", "attack_type", "train", "dev", "test", "faces", "videos", "subjects")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("a", "bonafide", "none", 0, 2, 0, 2, 1, 2),
        ("a", "attack", "mask", 1, 0, 0, 1, 1, 1),
        ("a", "attack", "print", 1, 0, 1, 2, 1, 2),
        ("b", "bonafide", "none", 0, 0, 1, 1, 1, 1),
    ]
    assert list(rows[0]) == list(names)
    assert card.as_text(rows) == [
        "domain  label     attack_type  train  dev  test  faces  videos  subjects",
        "a       bonafide  none             0    2     0      2       1         2",
        "a       attack    mask             1    0     0      1       1         1",
        "a       attack    print            1    0     1      2       1         2",
        "b       bonafide  none             0    0     1      1       1         1",
    ]
    assert card.as_text([]) == ["(nothing)"]
    cells = card.cells(COLUMNS)
    assert list(cells) == ["a/attack/test", "a/attack/train", "a/bonafide/dev", "b/bonafide/test"]
    assert list(cells.values()) == [1, 2, 2, 1]


def test_expected_numbers_beside_those_that_are_there():
    cases = [
        (Expected(1, 70), 68, "bona fide: 68 of 70 videos, 2 MISSING"),
        (Expected(0, 70, attack_type="print"), 70, "attack (print): 70 of 70 videos, complete"),
        (
            Expected(0, 5, ("train", "test"), what="x"),
            7,
            "attack of train and test [x]: 7 of 5 videos, 2 more than expected",
        ),
        (Expected(1, 5, ("dev",)), 6, "bona fide of dev: 6 of 5 videos, 1 more than expected"),
    ]
    assert [card.expectation(VideoCount(wanted, found)) for wanted, found, _ in cases] == [line for *_, line in cases]


def test_the_packages_that_decide_a_picture_are_noted():
    versions = card.versions()
    names = ["python", "agfas", "numpy", "pillow", "opencv-python", "av", "scipy", "datasets", "pyarrow"]
    assert list(versions) == names
    assert versions["python"] == platform.python_version()


def test_the_card_for_people():
    facts = {
        **{"title": "Faces", "source": "in", "citation": "A. Author", "verified": "By hand.", "recipe_hash": "0123"},
        **{"fingerprint": "4567", "faces": 2000, "asked": 2010, "refused_faces": 3, "filtered_faces": 4, "noted": 5},
        **{"left_out": 6, "passed_over": {"link, not followed": 1, ".txt, ignored": 2}, "licence": "Free."},
        "recipe": {"importer": "folder", "size": 64, "ratio": None, "aligned": False, "options": {}, "min_score": 0.0},
        "models": {"detector": {"detector": "squares"}, "parser": None},
        "versions": {"python": "3.11", "numpy": "2.0"},
    }
    rows = card.count_faces(COLUMNS)
    text = card.readme(facts, rows, ["attack: 1 of 2 videos, 1 MISSING"], ["No person is in two splits."])
    assert DatasetCard(text).data.to_dict() == {
        **{"license": "other", "license_name": "see-below", "size_categories": ["1K<n<10K"], "pretty_name": "Faces"},
        **{"task_categories": ["image-classification"], "configs": [{"config_name": "default", "data_files": FILES}]},
        "tags": ["face-anti-spoofing", "presentation-attack-detection", "face"],
    }
    _, _, body = text.partition("# Faces: aligned faces\n")
    paragraphs = [line for line in body.splitlines() if line]
    assert paragraphs == [
        "Made by `agfas prepare` from `in` with the importer `folder` (Faces).",
        "A. Author",
        "How the importer was checked: By hand.",
        "Recipe `0123`, content `4567`.",
        "## Counts",
        "| domain | label | attack_type | train | dev | test | faces | videos | subjects |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| a | bonafide | none | 0 | 2 | 0 | 2 | 1 | 2 |",
        "| a | attack | mask | 1 | 0 | 0 | 1 | 1 | 1 |",
        "| a | attack | print | 1 | 0 | 1 | 2 | 1 | 2 |",
        "| b | bonafide | none | 0 | 0 | 1 | 1 | 1 | 1 |",
        "Compared with a complete copy:",
        "- attack: 1 of 2 videos, 1 MISSING",
        "Of 2010 expected faces, 3 were refused; refused.csv gives the reasons.",
        "4 faces beyond the limits of pose or quality are listed there too.",
        "Of 5 files, not all was read, such as the first of several pages, or the sound frames of a video; noted.csv"
        " says which.",
        "6 faces of the larger class were left out for the ratio; left_out.csv lists them.",
        "Files that were not read, listed in passed_over.csv: 1 link, not followed; 2 .txt, ignored.",
        "## Splits",
        "No person is in two splits.",
        "## How it was made",
        "| setting | value |",
        "| --- | --- |",
        *("| importer | `folder` |", "| size | `64` |", "| ratio | off |", "| aligned | off |", "| options | off |"),
        *("| min_score | `0.0` |", "| detector | `{'detector': 'squares'}` |"),
        "Versions: python 3.11, numpy 2.0.",
        "## Licence and use",
        "Free.",
        "These are photographs of people. Use them only as their licence and the people's consent allow.",
    ]
