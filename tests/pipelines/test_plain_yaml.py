"""YAML of people: plain values, or one sentence within a moment."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from pipelines.errors import AgfasError
from pipelines.plain_yaml import MOST_BYTES, parse_scalar, parse_value, parse_yaml, read_yaml

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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("Null", None), ("NULL", None), ("nULL", "nULL"),
        ("true", True), ("True", True), ("TRUE", True), ("false", False), ("False", False), ("FALSE", False),
        ("0", 0), ("-0", 0), ("+7", 7), ("-12", -12), ("0o17", 15), ("0x1F", 31), ("00", "00"), ("-07", "-07"),
        ("07.5", 7.5), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0), ("-1.5E-2", -0.015), ("1e", "1e"), (".", "."),
        ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)), ("٣", "٣"), ("inf", "inf"),
        ("0o777777777777777777777", 2**63 - 1),
    ],
)  # fmt: skip
def test_scalars_are_those_of_the_core_schema(text, value):
    found = parse_scalar(text, "HERE")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9223372036854775808", "HERE: 9223372036854775808... is beyond the numbers of 64 bits. Give a smaller one."),
        ("-9223372036854775809", "HERE: -9223372036854775809"),
        ("1" * 30, f"HERE: {'1' * 20}... is beyond"),
        ("1e400", "HERE: 1e400 is beyond the numbers of 64 bits. Give a smaller one."),
        (".NaN", "HERE: .NaN is not a number. Give a finite one."),
        ("+.inf", "HERE: +.inf is not a number."),
    ],
)
def test_numbers_that_are_none_are_refused(text, words):
    with pytest.raises(AgfasError) as refusal:
        parse_scalar(text, "HERE")
    assert str(refusal.value).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: ]\n", "F is not valid YAML, line 2: "),
        ("a: !x 1", "F, line 1: the tag !x. Write the value without a tag, text in quotes."),
        ("a: 1\n\na: 2", "F, line 3: 'a' stands in line 1 already. Keep one of the two."),
        ("a: *b", "F, line 1: *b stands for nothing before it. Check the name."),
        ("a: 1\n---\nb: 2", "F, line 2: a second document begins. Keep one."),
        ("a: 1\n<<: [3]", "F, line 2: << merges blocks. Give an alias of a block."),
        ("!x a: 1", "F, line 1: a key that is no word. Check the brackets."),
        ("- 1\n- .nan", "F, line 2: .nan is not a number. Give a finite one."),
        (f"{'x' * 99}: 1\n{'x' * 99}: 2", f"F, line 2: '{'x' * 60}' stands in line 1 already."),
        (f"a: !{'x' * 99} 1", f"F, line 1: the tag !{'x' * 59}. Write"),
        (f"a: *{'x' * 99}", f"F, line 1: *{'x' * 60} stands for nothing"),
        ('"a": "\\0"', "F, line 1: a character of value zero, which no text has. Remove it."),
    ],
)
def test_a_refusal_names_the_line(text, words):
    with pytest.raises(AgfasError) as refusal:
        parse_yaml(text, "F")
    assert str(refusal.value).startswith(words)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_fifty_levels_and_fifty_thousand_values_are_enough():
    assert parse_yaml(nested(50), "F")
    with pytest.raises(AgfasError, match=r"F, line 1: lists or blocks more than 50 deep\. Check the brackets\."):
        parse_yaml(nested(51), "F")
    assert parse_yaml(f"a: &a {nested(25)}\nb: {'[' * 24}*a{']' * 24}", "F")
    with pytest.raises(AgfasError, match="50 deep"):
        parse_yaml(f"a: &a {nested(25)}\nb: {'[' * 25}*a{']' * 25}", "F")
    ones = ",".join(["1"] * 9_998)  # 9,999 with their list; five of these, the other list and the block are 49,997
    text = f"a: &a [{ones}]\nb: [*a,*a,*a,*a{{}}]"
    assert len(parse_yaml(text.format(",1,2,3"), "F")["b"]) == 7
    with pytest.raises(AgfasError, match=r"more than 50,000 values, which no settings have\. Check the aliases"):
        parse_yaml(text.format(",1,2,3,4"), "F")


def test_merged_blocks_give_way_to_what_stands_beside_them_and_the_first_wins():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}\nd: {'<<': 1}\n"
    values = parse_yaml(text, "F")
    assert values["c"] == {"x": 1, "y": 1, "z": 3}
    assert values["d"] == {"<<": 1}
    assert parse_yaml("# nothing", "F") is None


@pytest.mark.parametrize("text", ["'1'", '"1"', "{a: 1}", "[1, 2]", " 1 ", "~", "- 1", "a: 1", "&x 1"])
def test_a_value_of_an_override(text):
    expected = {"'1'": "1", '"1"': "1", "{a: 1}": {"a": 1}, "[1, 2]": [1, 2], " 1 ": 1, "~": None}
    assert parse_value(text, "HERE") == expected.get(text, text)


def test_a_file_of_just_the_most_bytes_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\n" + b"#" * (MOST_BYTES - 5))
    assert read_yaml(path) == {"a": 1}
    assert MOST_BYTES == 1_048_576
    path.write_bytes(path.read_bytes() + b"#")
    with pytest.raises(
        AgfasError, match=r"a\.yaml has more than 1,048,576 bytes, as no settings have\. Check its name\."
    ):
        read_yaml(path)
    with pytest.raises(AgfasError, match=r"cannot be read \(Is a directory\)\. Check its permissions\."):
        read_yaml(tmp_path)
