"""YAML that people write, as plain values; what is ambiguous, damaged or meant to harm is refused in one sentence.

Scalars are those of the core schema of YAML 1.2 (yaml.org/spec/1.2.2, 10.3.2): `no`, `12:30:00`, `1_000`, `007` and
`2020-01-01` are text. Keys are text. Anchors and merge keys count by what they stand for, so that none grows.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import AgfasError

MOST_BYTES = 1 << 20
_MOST_VALUES, _DEEPEST = 50_000, 50
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?(0|[1-9]\d*)|0o[0-7]+|0x[\da-fA-F]+", re.ASCII)
_REAL = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0\d+", re.ASCII)


def read_yaml(path: Path) -> Any:
    """The value in a YAML file; None if it is empty.

    Raises:
        AgfasError: it cannot be read, is too large, is not UTF-8, or as `parse_yaml`.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise AgfasError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from None
    if len(content) > MOST_BYTES:
        raise AgfasError(f"{path} has more than {MOST_BYTES:,} bytes, as no settings have. Check its name.")
    try:
        return parse_yaml(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise AgfasError(
            f"{path} is not valid YAML: its byte {error.start} is not UTF-8 text. Save it as text in UTF-8."
        ) from None


def parse_yaml(text: str, where: str) -> Any:
    """The value that a text holds; None if it is empty.

    Args:
        text: one document.
        where: what holds it, for errors.

    Raises:
        AgfasError: no YAML, several documents, a tag, a key given twice, an alias in itself, a number that is none or
            has more than 64 bits, or more values or deeper lists than settings have.
    """
    with _explained(where):
        return _Document(text, where).read()


def parse_value(text: str, where: str) -> Any:
    """The value that somebody wrote on one line, taken whole: a list or block in brackets, text in quotes, or a scalar.

    Raises:
        AgfasError: as `parse_yaml` and `parse_scalar`, or something follows the value.
    """
    text = text.strip()
    if not text.startswith(("[", "{", "'", '"')):
        return parse_scalar(text, where)
    with _explained(where):
        document = _Document(text, where)
        value = document.read()
        if rest := text[document.end :].strip():
            raise AgfasError(
                f"{where}: '{rest}' follows the value and would be lost. Put quotes around the whole text."
            )
        return value


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise AgfasError(
            f"{where} is not valid YAML{line}: {error.problem}. Indent with spaces, and put quotes around text."
        ) from None
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise AgfasError(f"{where} is not valid YAML: {' '.join(str(error).split())}.") from None


def parse_scalar(text: str, where: str) -> Any:
    """A word without quotes as a number, a truth value, None or, if it is none of them, the text.

    Raises:
        AgfasError: NaN, infinity, or a whole number of more than 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _NO_NUMBER.fullmatch(text):
        raise AgfasError(f"{where}: {text} is not a number. Give a finite one.")
    if _WHOLE.fullmatch(text):
        # Twenty digits hold every number of 64 bits; octal ones need 22.
        value = int(text, 0) if len(text) <= 24 else 1 << 64
        if -(1 << 63) <= value < 1 << 63:
            return value
        raise AgfasError(f"{where}: {text[:20]}... is beyond the numbers of 64 bits. Give a smaller one.")
    if _REAL.fullmatch(text) and not _LEADING_ZERO.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise AgfasError(f"{where}: {text[:20]} is beyond the numbers of 64 bits. Give a smaller one.")
        return number + 0.0  # without the sign of -0.0, which would give equal settings two names
    return text


class _Document:
    """The values of one text, built from the parser's events, so that harm is seen before it is done.

    Attributes:
        end: where the value ends in the text.
    """

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.end = 0
        self._events: Iterator[Any] = yaml.parse(text, Loader=_PARSER)
        self._values = 0
        self._anchors: dict[str, tuple[Any, int]] = {}

    def read(self) -> Any:
        """The value, or None if there is none."""
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._value(self._next(), 0)
        next(self._events)  # the end of the document
        if not isinstance(event := next(self._events), yaml.StreamEndEvent):
            raise self._refused(event, "a second document begins. Keep one")
        return value

    def _next(self) -> Any:
        event = next(self._events)
        self.end = event.end_mark.index
        return event

    def _refused(self, event: Any, why: str) -> AgfasError:
        return AgfasError(f"{self.where}, line {_line(event)}: {why}.")

    def _count(self, event: Any, values: int) -> None:
        self._values += values
        if self._values > _MOST_VALUES:
            raise self._refused(event, f"more than {_MOST_VALUES:,} values, which no settings have. Check the aliases")

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        before = self._values
        self._count(event, 1)
        if event.tag is not None:
            raise self._refused(event, f"the tag {event.tag[:60]}. Write the value without a tag, text in quotes")
        self._check_depth(event, depth + 1)
        value = self._content(event, depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._values - before
        return value

    def _check_depth(self, event: Any, depth: int) -> None:
        if depth > _DEEPEST:
            raise self._refused(event, f"lists or blocks more than {_DEEPEST} deep. Check the brackets")

    def _alias(self, event: Any, depth: int) -> Any:
        if event.anchor not in self._anchors:
            raise self._refused(event, f"*{event.anchor[:60]} stands for nothing before it. Check the name")
        value, values = self._anchors[event.anchor]
        self._count(event, values)
        self._check_depth(event, depth + _height(value))
        return copy.deepcopy(value)

    def _content(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._value(item, depth) for item in self._items()]
        if "\0" in event.value:
            raise self._refused(event, "a character of value zero, which no text has. Remove it")
        if event.style:
            return event.value
        return parse_scalar(event.value, f"{self.where}, line {_line(event)}")

    def _items(self) -> Iterator[Any]:
        while not isinstance(event := self._next(), yaml.CollectionEndEvent):
            yield event

    def _mapping(self, depth: int) -> dict[str, Any]:
        content: dict[str, Any] = {}
        merged: list[Any] = []
        lines: dict[str, int] = {}
        for event in self._items():
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self._refused(event, "a key that is no word. Check the brackets")
            key, line = event.value, _line(event)
            if key in lines:
                raise self._refused(event, f"'{key[:60]}' stands in line {lines[key]} already. Keep one of the two")
            lines[key] = line
            value = self._value(self._next(), depth)
            if key == "<<" and not event.style:
                merged = value if isinstance(value, list) else [value]
            else:
                content[key] = value
        for block in merged:
            if not isinstance(block, dict):
                raise AgfasError(f"{self.where}, line {lines['<<']}: << merges blocks. Give an alias of a block.")
            content = {**block, **content}
        return content


def _height(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_height, inner), default=0)


def _line(event: Any) -> int:
    return event.start_mark.line + 1
