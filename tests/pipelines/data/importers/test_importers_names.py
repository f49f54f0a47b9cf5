"""One person in many spellings, and names that only stand for one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from dataset_tree import touch

from pipelines.data.importers import load_importer
from pipelines.data.importers.source import SourceFace
from pipelines.data.prepare.names import check_keys, settled_names, source_name
from pipelines.data.prepare.settings import PrepareRecipe
from pipelines.data.prepare.sources import find_sources
from pipelines.errors import AgfasError
from pipelines.spelling import alike, short_name

NFC, NFD = "Jos\u00e9", "Jose\u0301"


def face(subject, video="v", frame=0, **other):
    return SourceFace(Path(f"/x/{subject}.png"), "d", "none", subject, video, frame, **other)


def settled(*faces, **recipe):
    return [
        (f.subject, f.video, f.frame, f.subject_known)
        for f in settled_names(list(faces), PrepareRecipe(**recipe), Path("/x"))
    ]


def test_both_forms_of_a_name_are_one_person_in_one_split(tmp_path):
    touch(tmp_path, *(f"{name}/{who}{n}/1.png" for n in range(5) for name, who in (("live", NFC), ("spoof", NFD))))
    faces = find_sources(tmp_path, PrepareRecipe()).faces
    assert len({face.subject for face in faces}) == 5
    assert all(len({face.split for face in faces if face.subject == who}) == 1 for who in {f.subject for f in faces})


@pytest.mark.parametrize("importer", ["csv", "live"])
def test_pictures_of_one_video_are_numbered_over_both_forms(tmp_path, importer):
    if importer == "live":
        touch(tmp_path, f"{NFC}.png", f"{NFD}.png")
        with pytest.raises(AgfasError, match=r"two forms of one name in Unicode.*Remove or rename"):
            check_keys(load_importer("live")(tmp_path, "d"), all_faces=False)
        return
    (tmp_path / "list.csv").write_text(f"path,label,subject,video\na.png,live,{NFC},{NFD}\nb.png,live,{NFD},{NFC}\n")
    faces = load_importer("csv")(tmp_path, "d")
    assert [(face.subject, face.video, face.frame) for face in faces] == [(NFC, NFC, 0), (NFC, NFC, 1)]


@pytest.mark.parametrize("other", ["ann", "Ann ", "\uff21nn", "A\u200bnn", "ANN"])
def test_names_that_look_alike_are_asked_about(other):
    with pytest.raises(AgfasError, match=r"one subject or several: 'A.*--alike one .*--alike several"):
        settled(face("Ann"), face(other, "w"))
    assert {row[0] for row in settled(face("Ann"), face(other, "w"), alike="several")} == {"Ann", other}
    assert len({row[0] for row in settled(face("Ann"), face(other), alike="one")}) == 1


def test_videos_that_become_one_are_numbered_anew():
    assert settled(face("Ann"), face("ann"), face("Bob", "w", 4), alike="one") == [
        *(("Ann", "v", 0, True), ("Ann", "v", 1, True), ("Bob", "w", 4, True))
    ]


def test_what_is_not_asked_about():
    both = face("img_1", "img_1", subject_known=False), face("IMG_1", "IMG_1", subject_known=False)
    assert len(settled(*both)) == 2
    assert settled(face("1_1"), face("11", "w"), face("-1_", "x"), na_subjects="person")


@pytest.mark.parametrize(
    ("one", "other"), [("7", "007"), ("7", "7.0"), ("7", "\u0667"), ("a_b", "a b"), ("\u212b", "\xe5")]
)
def test_more_spellings_of_one_name(one, other):
    assert alike(one) == alike(other)


@pytest.mark.parametrize("column", ["domain", "subject", "attack_type", "sex", "ethnicity"])
def test_what_the_question_about_spellings_says(column):
    one, two, three, four = (
        replace(face(f"s{n}", f"v{n}"), **{column: name}) for n, name in enumerate(("Ab", "aB", "AB", "ab"))
    )
    what, recipe = column.replace("_", " "), PrepareRecipe(alike="one")
    with pytest.raises(AgfasError) as caught:
        settled(one, two)
    places = {name: f"{name!r} (s{n}.png)" for n, name in enumerate(("Ab", "aB", "AB", "ab"))}
    assert str(caught.value) == (
        f"Is this one {what} or several: {places['Ab']} and {places['aB']}? The names differ only in case, width,"
        " blanks or zeros. Say --alike one to make them one, or --alike several to keep them apart."
    )
    others = [replace(one, video=f"w{n}", **{column: name}) for n, name in enumerate(("x", "X", "y", "Y"))]
    with pytest.raises(AgfasError) as caught:
        settled(one, two, three, four, *others)
    shown = " and ".join(places[name] for name in ("AB", "Ab", "aB"))
    assert f"several: {shown}? The names, and of 2 others, differ" in str(caught.value)
    assert len({getattr(f, column) for f in settled_names([one, two, three, four], recipe, Path("/x"))}) == 1


def test_subjects_of_two_domains_and_unknown_ones_are_not_asked_about():
    ann = face("Ann")
    assert len(settled(ann, replace(face("ann", "w"), domain="e"))) == 2
    assert len(settled(ann, face("ann", "w", subject_known=False))) == 2
    with pytest.raises(AgfasError, match="Is this one domain or several"):
        settled(*(replace(ann, domain=name, subject_known=False) for name in "dD"))


def test_a_picture_of_a_list_and_one_of_a_table_have_names():
    row = replace(face("Ann"), row=0, column="photo")
    assert [source_name(row, Path("/x")), source_name(replace(row, row=7), Path("/x"))] == ["photo[0]", "photo[7]"]
    assert [source_name(face("a/b"), Path(place)) for place in ("/x", "/y", "/x/a")] == [
        "a/b.png",
        "/x/a/b.png",
        "b.png",
    ]


def test_videos_and_pictures_of_other_videos_keep_their_numbers():
    film = replace(face("Ann", "v", 5), path=Path("/x/a.mp4"))
    faces = (face("Ann", "v", 7), face("ann", "v", 7), film, face("Ann", "w", 9))
    assert [row[2] for row in settled(*faces, alike="one")] == [0, 1, 5, 9]
    assert [row[2] for row in settled(face("Ann", "v", 7), film, face("Bob", "w", 9), alike="one")] == [7, 5, 9]


@pytest.mark.parametrize(
    "name", ["nan", "None", " NA", "-1", "unknown", "?", "null", "N/A", "\uff2e\uff21", "unk", "Anonymous", "undefined"]
)
def test_a_name_that_stands_for_none_is_asked_about(name):
    with pytest.raises(AgfasError, match=r"a person\? 1 sources .*--na-subjects person .*--na-subjects unknown"):
        settled(face(name))
    assert settled(face(name), na_subjects="unknown") == [("v", "v", 0, False)]
    assert settled(face(name), na_subjects="person") == [(name, "v", 0, True)]


@pytest.mark.parametrize("name", ["5\u00b23.png", "2024\u24601.png", "\u0665\u00b2.png", "\u2167.png"])
def test_digits_of_every_kind_sort(tmp_path, name):
    touch(tmp_path, f"live/a/{name}", "live/a/10.png", "spoof/a/9.png")
    assert len(load_importer("folder")(tmp_path, "d")) == 3


def test_digits_of_another_script_are_no_number_of_a_dataset(tmp_path):
    touch(tmp_path, "train_release/1/1.avi", "train_release/\u0661/1.avi")
    with pytest.raises(AgfasError, match="not called as in CASIA-FASD"):
        load_importer("casia_fasd")(tmp_path, "d")


def test_long_names_are_cut_and_stay_distinct():
    for letter in ("x", "\u65e5", "\U0001f642"):
        one, other = (short_name(f"{letter * 300}{end}.png") for end in "ab")
        assert one != other
        assert {len(name.encode()) <= 255 and name.endswith(".png") for name in (one, other)} == {True}
    assert short_name("short.png") == "short.png"


def test_a_domain_too_long_for_the_names_of_folders():
    check_keys([replace(face("Ann"), domain="d" * 98 + "\u00e9")], all_faces=False)
    with pytest.raises(AgfasError) as caught:
        check_keys([replace(face("Ann"), domain="d" * 99 + "\u00e9")], all_faces=False)
    assert str(caught.value) == (
        f"The name of the domain {'d' * 40}... has 101 bytes; at most 100 fit into names of folders. Give a shorter one"
        " with --domain."
    )
