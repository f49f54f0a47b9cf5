"""Tables, lists, cards, streams and fingerprints as text: the same everywhere and for ever."""

from __future__ import annotations

import base64
import hashlib
import io
import json

import jinja2
import numpy as np
import pytest
from huggingface_hub import DatasetCardData
from PIL import Image

from pipelines.errors import in_short
from pipelines.fingerprint import canonical_json, content_sha256, file_sha256, fingerprint, folder_sha256
from pipelines.markdown import aligned, join_names, table
from pipelines.streams import stream, uniform
from pipelines.templates import data_uri, load_template, render_card, size_category


def test_a_table_of_markdown():
    assert table(["a", "b"], [[1, "x|y"], [None, 0.5]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n| None | 0.5 |"


@pytest.mark.parametrize(
    ("names", "text"), [([], "none"), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_names_in_a_sentence(names, text):
    assert join_names(names) == text


def test_columns_of_a_terminal():
    assert aligned([["a", "bb", "c"], ["aaa", "b", ""]]) == "a    bb  c\naaa  b"


@pytest.mark.parametrize(
    ("count", "name"),
    [
        (0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (9_999, "1K<n<10K"), (10_000, "10K<n<100K"),
        (99_999, "10K<n<100K"), (100_000, "100K<n<1M"), (999_999, "100K<n<1M"), (1_000_000, "1M<n<10M"),
        (9_999_999, "1M<n<10M"), (10_000_000, "n>10M"),
    ],
)  # fmt: skip
def test_sizes_are_those_of_the_hub(count, name):
    assert size_category(count) == name


def test_pages_are_escaped_and_cards_are_not(tmp_path):
    for ending in ("html", "md.j2"):
        (tmp_path / f"page.{ending}").write_text(
            "{{ name }}\n  {% if true %}\nyes {{ ['a', 'b'] | join_names }}\n  {% endif %}\n{{ table(['x'], [[1]]) }}\n"
        )
    below = "yes a and b\n| x |\n| --- |\n| 1 |\n"
    assert load_template(tmp_path / "page.html").render(name="<b>") == f"&lt;b&gt;\n{below}"
    assert load_template(tmp_path / "page.md.j2").render(name="<b>") == f"<b>\n{below}"
    with pytest.raises(jinja2.UndefinedError):
        load_template(tmp_path / "page.html").render()
    card = render_card(tmp_path / "page.md.j2", DatasetCardData(license="mit"), name="<b>")
    assert card == f"---\nlicense: mit\n---\n\n<b>\n{below}"


def test_a_picture_within_a_page():
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    for uri, head in (
        (data_uri(picture), "data:image/png;base64,"),
        (data_uri(picture, "JPEG", quality=90), "data:image/jpeg;base64,"),
    ):
        assert uri.startswith(head)
        with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(head)))) as opened:
            assert opened.size == (4, 4)


def test_a_stream_is_seeded_by_the_hash_of_its_name():
    digest = hashlib.sha256(b"3/flip/7").digest()
    expected = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    assert stream(3, "flip", 7).random(4).tolist() == expected.random(4).tolist()
    drawn = [uniform(rng, (2.0, 5.0)) for rng in [stream(0, "u")] for _ in range(3)]
    assert drawn == stream(0, "u").uniform(2.0, 5.0, 3).tolist()


def test_an_identity_is_the_hash_of_canonical_text():
    value = {"b": [1, 2.5, None], "a": {"ü": True}}
    text = '{"a":{"\\u00fc":true},"b":[1,2.5,null]}'
    assert canonical_json(value) == text
    assert fingerprint(value) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_hash_of_a_folder_is_over_names_and_bytes_of_its_weights(tmp_path):
    folder = tmp_path / "model"
    (folder / "part").mkdir(parents=True)
    names = ["a.txt", "config.json", "part/b.safetensors", "w.bin", "w.data", "w.onnx", "w.pt", "w.pth"]
    for name in names:
        (folder / name).write_bytes(name.encode())
    (folder / "README.md").write_text("a card")
    (folder / "checksums.json").write_text("{}")
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    text = json.dumps([[name, hashes[name]] for name in sorted(names)], separators=(",", ":"))
    whole = hashlib.sha256(text.encode()).hexdigest()
    assert folder_sha256(folder) == whole
    (folder / "w.onnx").unlink()  # its checker wants a graph
    names.remove("w.onnx")
    text = json.dumps([[name, hashes[name]] for name in sorted(names)], separators=(",", ":"))
    assert content_sha256(folder) == hashlib.sha256(text.encode()).hexdigest()
    assert content_sha256(folder / "w.bin") == file_sha256(folder / "w.bin") == hashes["w.bin"]
    large = bytes(range(256)) * 4097  # more than one piece
    (folder / "w.bin").write_bytes(large)
    assert content_sha256(folder / "w.bin") == hashlib.sha256(large).hexdigest()


def test_an_error_in_short_is_one_line():
    assert in_short(ValueError("a\n  b")) == "a b"
    assert in_short(KeyError()) == "KeyError"
    assert in_short(ValueError("x" * 300)) == "x" * 200
