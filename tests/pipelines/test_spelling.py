"""One name in many spellings, and names that a file system takes."""

from __future__ import annotations

import hashlib
import unicodedata

import pytest

from pipelines.spelling import LONGEST_NAME, alike, alike_groups, one_form, short_name


def test_canonically_equal_names_are_one():
    decomposed = unicodedata.normalize("NFD", "Zoë Müller")
    assert decomposed != "Zoë Müller"
    assert one_form(decomposed) == one_form("Zoë Müller") == "Zoë Müller"
    assert one_form("Ann_1 ") == "Ann_1 "


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (" Ann_Smith ", "ann smith"),
        ("ann \t _ smith", "ann smith"),
        ("Ａｎｎ", "ann"),  # full width
        ("an\u200bn", "ann"),  # a blank of no width
        ("an\x07n", "ann"),
        ("Straße", "strasse"),
        ("007", "7"),
        ("7.0", "7"),
        ("7.00", "7"),
        ("7.5", "7.5"),
        ("000", "0"),
        ("0", "0"),
        ("10", "10"),
        ("٠٧", "7"),  # Arabic digits
        ("v007", "v007"),
        ("", ""),
    ],
)
def test_what_a_reader_takes_for_one_name_is_alike(text, form):
    assert alike(text) == form


def test_groups_are_of_names_that_differ():
    assert alike_groups(["7", "b", "Ann", "a", "007", "ann", "Ann", "7.0"]) == [["007", "7", "7.0"], ["Ann", "ann"]]
    assert alike_groups(["a", "a", "b"]) == []


@pytest.mark.parametrize("ending", ["", ".png", ".abcdefghijk", ".abcdefghijkl"])
def test_a_long_name_keeps_its_beginning_and_a_short_ending(ending):
    name = "x" * LONGEST_NAME + ending
    found = short_name(name)
    mark = "-" + hashlib.sha256(name.encode()).hexdigest()[:16] + (ending if len(ending) < 13 else "")
    assert found == "x" * (LONGEST_NAME - len(mark)) + mark if ending else found == name
    assert len(found) == LONGEST_NAME == 255
    assert short_name(name[1:], len(name) - 1) == name[1:]


def test_a_name_is_cut_between_characters_and_may_hold_bytes_that_are_no_text():
    mark = "-" + hashlib.sha256(("ü" * 30).encode()).hexdigest()[:16]
    assert short_name("ü" * 30, 22) == "üü" + mark  # five bytes are left, of which two letters take four
    assert short_name("ü" * 30, 5) == mark
    assert short_name("a\udcff" * 20, 30).startswith("a")
    assert short_name("." + "a" * 300).startswith(".aaa")
    assert len(short_name("." + "a" * 300)) == 255
