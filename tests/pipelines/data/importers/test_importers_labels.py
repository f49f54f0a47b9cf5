"""What labels mean: common words, numbers that are asked for, and options that contradict a word."""

from __future__ import annotations

import pytest
from dataset_tree import found, said, touch

from pipelines.data.importers import load_importer
from pipelines.data.importers.labels import as_text, attack_type_of, meanings
from pipelines.data.importers.words import ATTACK_TYPES, SPLIT_WORDS, meaning
from pipelines.errors import AgfasError

TYPES = "print cut replay paper_mask mask flexible_mask head wax partial makeup wig attack"


def meant(labels, **given):
    return meanings(
        dict.fromkeys(labels, "row 0"), given.get("bonafide"), given.get("live"), "a list", given.get("names", ())
    )


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (
            ("live", "LIVE ", "reals", "bona_fide", "Bona Fide", "\uff2c\uff29\uff36\uff25", "live face", "bonafide"),
            "none",
        ),
        (("genuine", "authentic", "alive", "real faces", "live__--face"), "none"),
        (("Spoof", "FAKE", "imposters", "impostor", "spoofed", "spoofing", "presentation attack", "PA"), "attack"),
        (("attack", "attacks", "spoof attacks", "fake faces"), "attack"),
        (("prints", "printed", "Printed_Photo", "print attack"), "print"),
        (("replay attack", "replays", "REPLAY-ATTACKS"), "replay"),
        (("Paper-Mask", "paper mask attack"), "paper_mask"),
        (("3D mask", "masks"), "mask"),
        (
            ("0", "1", "1.0", "true", "not live", "live attack", "live attacks", "photo", "", "\u00b2", "livefaces"),
            None,
        ),
    ],
)
def test_what_words_mean(words, kind):
    assert {word: meaning(word) for word in words} == dict.fromkeys(words, kind)


def test_every_attack_type_is_a_word_for_itself():
    assert list(ATTACK_TYPES) == TYPES.split()
    assert [meaning(kind) for kind in ATTACK_TYPES] == TYPES.split()


def test_words_for_splits():
    words = {"train": "train training", "dev": "dev devel development val valid validation"}
    words["test"] = "test testing eval evaluation"
    assert {word: split for split, own in words.items() for word in own.split()} == SPLIT_WORDS


def test_labels_as_text():
    assert [as_text(value) for value in (1.0, 0.5, True, None, float("nan"), " a ", 7)] == [
        *("1", "0.5", "true", "", "", "a", "7")
    ]


def test_options_name_labels_by_spelling_or_number():
    assert meant(["0", "1"], live=0) == {"0": "none", "1": "attack"}
    assert meant(["A", "B", "print"], bonafide="a, b") == {"A": "none", "B": "none", "print": "print"}
    assert meant(["me", "you"], bonafide=[1], names=["you", "me"]) == {"me": "none", "you": "attack"}
    assert meant(["me", "you"], bonafide=0.0, names=["you", "me"]) == {"me": "attack", "you": "none"}
    assert meant(["true", "false"], live=0) == {"true": "attack", "false": "none"}
    assert meant(["true", "false"], live="1") == {"true": "none", "false": "attack"}
    # A label that is spelled like the number is meant before the label of that number.
    assert meant(["1", "2"], live=1, names=["x", "2"]) == {"1": "none", "2": "attack"}


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        (["live", "maybe"], {}, r"'maybe' \(row 0\) has no common meaning.*there are: live, maybe"),
        (["0", "live"], {}, r"'0' \(row 0\)"),
        (["0", "1"], {"live": "2"}, "No label in a list is '2'"),
        (["0", "1"], {"live": "\u00b2"}, "No label"),
        (["a", "b"], {"live": "2", "names": ["a", "b"]}, "No label in a list is '2'; Allowed: a, b"),
        (["a", "b"], {"live": "9" * 5000, "names": ["a", "b"]}, "No label in a list is '9999"),
        (["lvie", "spoof"], {}, r"no common meaning \(did you mean 'live'\?\)\. Name"),
        (["xxxxx"], {}, r"'xxxxx' \(row 0\) has no common meaning\. Name"),
        (["0", "1"], {"live": 0, "bonafide": 0}, "two names of one option"),
        (["live", "real", "x"], {"bonafide": "live"}, "contradicts the label 'real', which says bona fide"),
        (["spoof", "x"], {"bonafide": "spoof, x"}, "=spoof,x contradicts the label 'spoof', which says an attack"),
    ],
)
def test_what_is_asked_and_what_is_refused(labels, given, message):
    with pytest.raises(AgfasError, match=message):
        meant(labels, **given)


@pytest.mark.parametrize(("number", "more"), [(20, r"18, 19\.$|Allowed: .*, 19"), (21, r"18, 19 and 1 more\.$")])
def test_at_most_twenty_labels_are_listed(number, more):
    labels = [f"{place:02d}" for place in range(number)]
    for given in ({}, {"live": "x"}):
        with pytest.raises(AgfasError, match=more) as caught:
            meant(labels, **given)
        assert ("there are:" in str(caught.value)) == (number > 20 or not given)


@pytest.mark.parametrize(
    ("label", "given", "kind"),
    [
        ("none", ("", "NaN", "null", "N/A", "na", "none", "No", "live", " Bona-Fide"), "none"),
        ("attack", ("", "nan", "NULL", "n/a", "NA"), "attack"),
        ("attack", ("Paper-Mask",), "paper_mask"),
        ("print", ("photo on silk",), "photo on silk"),
    ],
)
def test_the_attack_type_of_a_row(label, given, kind):
    assert {word: attack_type_of(label, word, "x", "row 1") for word in given} == dict.fromkeys(given, kind)


@pytest.mark.parametrize(("label", "given"), [("none", "print"), ("attack", "no"), ("print", "live"), ("none", "silk")])
def test_an_attack_type_that_contradicts_its_label(label, given):
    with pytest.raises(AgfasError) as caught:
        attack_type_of(label, given, "x", "row 1")
    assert str(caught.value) == (
        f"row 1: attack_type {given!r} does not go with the label 'x'. Correct one of them, or leave the attack type"
        " out."
    )


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
        (("ann/1.png", "bob/1.png"), r"bonafide/ is missing\. There are: ann, bob\. Rename"),
        (tuple(f"{letter}/1.png" for letter in "abcdefghijk"), r"There are: a, b, c, d, e, f, g, h, i, j\. Rename"),
        (("live/1.png",), r"attack/; attack/ is missing\. For live faces alone use --importer live\.$"),
        (("train/live/1.png", "test/spoof/1.png"), "SPLIT/CLASS/FILE use --importer hf"),
        (("train/1.png", "dev/1.png"), r"splits \(dev, train\)\. For"),
        (("spoof/1.png", "fake/1.png"), r"attack/; bonafide/ is missing\.$"),
    ],
)
def test_folders_whose_class_is_not_clear(tmp_path, names, message):
    with pytest.raises(AgfasError, match=message):
        found("folder", touch(tmp_path, *names))


def test_folders_of_classes_named_by_an_option(tmp_path):
    touch(tmp_path, "ann/s/10.png", "ann/s/9.png", "ann/s/deep/x.mp4", "eve/2.png", "eve/a.png", "bob/1.png")
    (tmp_path / "linked").symlink_to(tmp_path / "eve")
    faces = load_importer("folder")(tmp_path, "d", bonafide="ann")
    assert [(face.path.relative_to(tmp_path).as_posix(), *said(face)[1:5], face.subject_known) for face in faces] == [
        ("ann/s/9.png", "none", "s", "ann-s", 0, True),
        ("ann/s/10.png", "none", "s", "ann-s", 1, True),
        ("ann/s/deep/x.mp4", "none", "s", "ann-s-deep-x", 0, True),
        ("bob/1.png", "attack", "bob-run-0000", "bob-run-0000", 0, False),
        ("eve/2.png", "attack", "eve-run-0000", "eve-run-0000", 0, False),
        ("eve/a.png", "attack", "eve-run-0000", "eve-run-0000", 1, False),
    ]
    assert [face.label for face in load_importer("folder")(tmp_path, "d", live=["bob", "eve"])] == [1, 1, 1, 0, 0, 0]
    with pytest.raises(AgfasError, match=r"is 'spoof'; Allowed: ann, bob, eve"):
        load_importer("folder")(tmp_path, "d", live="ann,bob,eve,spoof")


def test_folders_of_classes_beside_one_of_a_split(tmp_path):
    touch(tmp_path, "live/1.png", "spoof/1.png", "train/notes.txt")
    assert len(load_importer("folder")(tmp_path, "d")) == 2
