"""What labels mean: common words, numbers that are asked for, and options that contradict a word."""

from __future__ import annotations

import pytest
from dataset_tree import found, touch

from pipelines.data.importers.labels import as_text, meanings
from pipelines.data.importers.words import ATTACK_TYPES, meaning
from pipelines.errors import AgfasError


def meant(labels, **given):
    return meanings(
        dict.fromkeys(labels, "row 0"), given.get("bonafide"), given.get("live"), "a list", given.get("names", ())
    )


@pytest.mark.parametrize(
    "word", ["live", "LIVE ", "reals", "bona_fide", "Bona Fide", "\uff2c\uff29\uff36\uff25", "live face"]
)
def test_words_for_bona_fide(word):
    assert meaning(word) == "none"


def test_words_for_attacks():
    assert {meaning(kind) for kind in ATTACK_TYPES} == set(ATTACK_TYPES)
    assert {meaning(word) for word in ("Spoof", "FAKE", "imposters", "presentation attack")} == {"attack"}
    assert [meaning(word) for word in ("replay attack", "Paper-Mask", "prints")] == ["replay", "paper_mask", "print"]


@pytest.mark.parametrize("word", ["0", "1", "1.0", "true", "not live", "live attack", "photo", "", "\u00b2"])
def test_words_that_mean_nothing_for_sure(word):
    assert meaning(word) is None


def test_labels_as_text():
    assert [as_text(value) for value in (1.0, 0.5, True, None, float("nan"), " a ", 7)] == [
        *("1", "0.5", "true", "", "", "a", "7")
    ]


def test_options_name_labels_by_spelling_or_number():
    assert meant(["0", "1"], live=0) == {"0": "none", "1": "attack"}
    assert meant(["A", "B", "print"], bonafide="a, b") == {"A": "none", "B": "none", "print": "print"}
    assert meant(["me", "you"], bonafide=[1], names=["you", "me"]) == {"me": "none", "you": "attack"}


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        (["live", "maybe"], {}, r"'maybe' \(row 0\) has no common meaning.*there are: live, maybe"),
        (["0", "live"], {}, r"'0' \(row 0\)"),
        (["0", "1"], {"live": "2"}, "No label in a list is '2'"),
        (["0", "1"], {"live": "\u00b2"}, "No label"),
        (["0", "1"], {"live": 0, "bonafide": 0}, "two names of one option"),
        (["live", "real", "x"], {"bonafide": "live"}, "contradicts the label 'real', which says bona fide"),
        (["spoof", "x"], {"bonafide": "spoof"}, "contradicts the label 'spoof', which says an attack"),
    ],
)
def test_what_is_asked_and_what_is_refused(labels, given, message):
    with pytest.raises(AgfasError, match=message):
        meant(labels, **given)


def test_folders_of_classes_have_common_names(tmp_path):
    touch(tmp_path, "LIVE /ann/1.png", "Print/ann/1.png", "replay/bob.mp4", "desktop.ini", "__MACOSX/x/._1.png")
    faces = found("folder", tmp_path)
    assert {name: (face.label, face.attack_type, face.subject) for name, face in faces.items()} == {
        "LIVE /ann/1.png": (1, "none", "ann"),
        "Print/ann/1.png": (0, "print", "ann"),
        "replay/bob.mp4": (0, "replay", "replay-bob"),
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("live/1.png", "spoof/1.png", "extra/1.png"), r"'extra' \(.*extra\) has no common meaning"),
        (("ann/1.png", "bob/1.png"), r"bonafide/ is missing\. There are: ann, bob"),
        (("train/live/1.png", "test/spoof/1.png"), "SPLIT/CLASS/FILE use --importer hf"),
        (("spoof/1.png", "fake/1.png"), "bonafide/ is missing"),
    ],
)
def test_folders_whose_class_is_not_clear(tmp_path, names, message):
    with pytest.raises(AgfasError, match=message):
        found("folder", touch(tmp_path, *names))
