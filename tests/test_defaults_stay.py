"""Defaults and allowed ranges are promises: names of artefacts, saved models and published results rest on them.

`defaults.json` holds those of every block of settings and of every option of a command; those of constructors stand in
`stated.json`, see `stated.py`. What stands there stays; what is new may be added by

    PYTHONPATH=. python tests/test_defaults_stay.py
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from pipelines.cli import app
from pipelines.settings import Strict

ROOT = Path(__file__).parents[1]
STORED = Path(__file__).with_name("defaults.json")


def settings() -> dict[str, list[str]]:
    """BLOCK.FIELD to its default, range and marks."""
    for path in sorted((ROOT / "pipelines").rglob("*.py")):
        if "settings" in path.stem or path.parent.name == "experiment":
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    blocks = sorted(set(_descendants(Strict)), key=lambda block: (block.__module__, block.__qualname__))
    return {
        f"{block.__qualname__}.{name}": [
            _text(field.get_default(call_default_factory=True)),
            *sorted(_text(mark) for mark in field.metadata if not hasattr(mark, "func")),  # validators have one
        ]
        for block in blocks
        if block.__module__.startswith("pipelines.")
        for name, field in block.model_fields.items()
    }


def _text(value: Any) -> str:
    """Without the fields of a block, which stand for themselves, and without the address of an object."""
    shown = repr(value)
    return (
        type(value).__name__ if isinstance(value, BaseModel) or shown.startswith("<") else re.sub(" at 0x.*", "", shown)
    )


def _descendants(block: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in block.__subclasses__():
        yield child
        yield from _descendants(child)


def options() -> dict[str, list[str]]:
    """COMMAND OPTION to its spellings, type and default."""
    return {
        f"{name} {option.name}": [*option.opts, repr(option.default), str(option.required)]
        for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
        for option in command.params
    }


TABLES = {"settings": settings, "options": options}


@pytest.mark.parametrize("table", TABLES)
def test_defaults_and_ranges_are_what_they_were(table: str) -> None:
    now = TABLES[table]()
    before = json.loads(STORED.read_text())[table]
    assert {name: "; ".join(now.get(name, ())) for name in before} == before


if __name__ == "__main__":
    tables = {table: {name: "; ".join(facts) for name, facts in make().items()} for table, make in TABLES.items()}
    STORED.write_text(json.dumps(tables, indent=1, sort_keys=True) + "\n")
