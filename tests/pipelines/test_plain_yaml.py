"""YAML of people: plain values, or one sentence within a moment."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from pipelines.errors import AgfasError
from pipelines.plain_yaml import MOST_BYTES, parse_value, parse_yaml, read_yaml

NINE_TIMES = "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
FORTY_DEEPER = "".join(f"b{i}: &a{i + 1} {'[' * 40}*a{i}{']' * 40}\n" for i in range(2000))
MERGED_TWICE = "".join(f"k{i + 1}: &k{i + 1} {{<<: [*k{i}, *k0], z{i}: 1}}\n" for i in range(3000))

HOSTILE = {
    "[" * 3000: "line 1",
    "{a: " * 3000: "50 deep",
    f"a: &a [{','.join('1' * 9)}]\n{NINE_TIMES}": "50,000 values",
    f"k0: &k0 {{x: 1}}\n{MERGED_TWICE}": "50,000 values",
    f"a: &a0 1\n{FORTY_DEEPER}": "50 deep",
    "&a [*a]": "stands for nothing",
    "a: !!int x": "the tag",
    "a: !!python/object/apply:os.system [ls]": "the tag",
    f"a: {'9' * 5000}": "64 bits",
    f"a: 0x{'f' * 5000}": "64 bits",
    "a: 1e999": "64 bits",
    "a: .nan": "not a number",
    "a: [-.INF]": "not a number",
    "a: 1\nb: 2\na: 3": "line 3: 'a' stands in line 1",
    "a:\n\tb: 1": "Indent with spaces",
    "a: \0": "control characters",
    'a: "\\0"': "value zero",
    "? [a]\n: 1": "no word",
    "a: 1\n--- \nb: 2": "second document",
    "<<: 3": "merges blocks",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_would_harm_or_mislead_is_one_sentence_at_once(text):
    begin = time.process_time()
    tracemalloc.start()
    with pytest.raises(AgfasError, match="FILE.*" + HOSTILE[text]) as refusal:
        parse_yaml(text, "FILE")
    assert len(str(refusal.value)) < 300
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
    assert time.process_time() - begin < 1


def test_words_are_numbers_only_if_nobody_reads_them_otherwise():
    text = "[no, on, 12:30:00, 1_000, 007, 2020-01-01, 0o17, 0x10, 1e3, -0.0, .5, ~, true, '1', =]"
    values = parse_yaml(text, "FILE")
    assert values == [
        "no",
        "on",
        "12:30:00",
        "1_000",
        "007",
        "2020-01-01",
        15,
        16,
        1000.0,
        0.0,
        0.5,
        None,
        True,
        "1",
        "=",
    ]
    assert str(values[9]) == "0.0"


def test_blocks_are_merged_and_aliases_are_copies():
    values = parse_yaml("a: &a {x: 1, y: [2]}\nb: {<<: *a, x: 3}\nc: *a\non: 1", "FILE")
    assert values == {"a": {"x": 1, "y": [2]}, "b": {"x": 3, "y": [2]}, "c": {"x": 1, "y": [2]}, "on": 1}
    assert values["c"]["y"] is not values["a"]["y"]


def test_a_line_is_taken_whole_or_not_at_all():
    assert parse_value(" {a: [1, x]} ", "ARGUMENT") == {"a": [1, "x"]}
    assert parse_value("a: b #3", "ARGUMENT") == "a: b #3"
    with pytest.raises(AgfasError, match="ARGUMENT: '# b' follows the value"):
        parse_value("'a' # b", "ARGUMENT")


@pytest.mark.parametrize(
    ("content", "words"),
    [("a: 1".encode("utf-16"), "byte 0 is not UTF-8"), (b"a: \xff", "byte 3"), (b"#" * (MOST_BYTES + 1), "more than")],
)
def test_a_file_that_is_no_text_of_settings(tmp_path, content, words):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(AgfasError, match=f"a.yaml.*{words}"):
        read_yaml(tmp_path / "a.yaml")


def test_a_mark_at_the_beginning_is_passed_over(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 1}
