"""From bodies to files."""

from __future__ import annotations

import pytest
from serve_parts import form

from pipelines.asgi import Refused
from pipelines.serve.forms import clean, files_of

KIND = "multipart/form-data; boundary=xyz"


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/jpeg; q=1", "video/mp4", "application/octet-stream", "image/*"])
def test_a_body_is_a_file(kind):
    assert files_of(kind, b"abc", 1, 3) == [("", b"abc")]


def test_the_files_of_a_form_come_in_order_and_fields_are_passed_over():
    field = b'--xyz\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    body = field + form(b"one\r\n--xy", b"", name="A b.png").replace(b"\r\n\r\n\r\n", b"\r\n\r\ntwo\r\n")
    assert files_of(KIND, body, 3, 100) == [("A b.png", b"one\r\n--xy"), ("A b.png", b"two")]
    assert files_of('Multipart/Form-Data; charset=utf-8; boundary="xyz"', form(b"x"), 1, 1) == [("a.png", b"x")]


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("", b"x", 415, "and none was given."),
        ("application/json", b"{}", 415, "not 'application/json'."),
        ("application/x-www-form-urlencoded", b"x", 415, "Content-Type image/jpeg"),
        ("image/png", b"", 400, "no file in it"),
        ("image/png", b"x" * 11, 413, "A file may have 9.54e-06 MB."),
        (KIND, form(b"x" * 11), 413, "A file may have"),
        (KIND, form(b"x", b""), 400, "no file in it, or an empty one"),
        (KIND, form(), 400, "form"),
        (KIND, b"", 400, "breaks off"),
        (KIND, form(b"x")[:-6], 400, "breaks off"),
        (KIND, b"rubbish", 400, "form"),
        (KIND, form(b"x", b"x", b"x"), 400, "A form may have 2 parts here."),
        ("multipart/form-data", form(b"x"), 400, "form"),
        ("multipart/form-data; boundary=" + "x" * 500, form(b"x"), 400, "The form is broken."),
        (KIND, b"--xyz\r\n" + b"a: b\r\n" * 50 + b"\r\nx\r\n--xyz--\r\n", 400, "The form is broken."),
        (KIND, b"--xyz\r\na: " + b"b" * 5000 + b"\r\n\r\nx\r\n--xyz--\r\n", 400, "The form is broken."),
        (KIND, b'--xyz\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n--xyz--\r\n', 400, "no file in it"),
    ],
)
def test_other_bodies_are_refused(kind, body, status, words):
    with pytest.raises(Refused) as refused:
        files_of(kind, body, 2, 10)
    assert (refused.value.status, words in refused.value.words) == (status, True), refused.value.words
    assert refused.value.words.endswith(".")


@pytest.mark.parametrize(
    ("given", "kept"),
    [(b"a.png", "a.png"), (b"../../etc/passwd", "passwd"), (b"C:\\x\\a.png", "a.png"),
     (b"a\x1b[2J\n.png", "a?[2J?.png"),
     ("ü.png".encode(), "ü.png"), (b"\xff", "�"), (b"x" * 300, "x" * 100), (b"a/", ""), (b" a ", "a")],
)  # fmt: skip
def test_names_are_cleaned(given, kept):
    assert clean(given) == kept
