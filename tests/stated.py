"""What the modules of a library state: defaults of arguments, constants, and what classes say of themselves.

Names of artefacts, saved models and published results rest on these, as on the settings of `defaults.json`. What stands
in `stated.json` stays; what is new may be added by

    PYTHONPATH=.:tests:tests/dfg:tests/oanet python tests/stated.py
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

STORED = Path(__file__).with_name("stated.json")
_PLAIN = ("str", "int", "float", "bool", "tuple", "list", "dict", "mappingproxy", "NoneType", "Decision", "ndarray")


def assert_unchanged(now: dict[str, str], former: dict[str, str]) -> None:
    """What was stated is stated; more may be."""
    assert {name: now.get(name) for name in former} == former


def assert_reports_are_off(library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing a library turns reports of others off, unless the user has turned them on."""
    names = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
    for given, expected in ((None, "1"), ("0", "0")):
        for name in names:
            monkeypatch.delenv(name, raising=False) if given is None else monkeypatch.setenv(name, given)
        importlib.reload(library)
        assert [os.environ[name] for name in names] == [expected, expected]


def stated(module: str) -> dict[str, str]:
    """By name: a module's constants, its functions' and constructors' defaults, and its classes' plain attributes."""
    found: dict[str, str] = {}
    for name, value in vars(importlib.import_module(module)).items():
        if inspect.isclass(value) and value.__module__ == module:
            found |= {f"{name}{part}": fact for part, fact in _of_class(value)}
        elif inspect.isfunction(value) and value.__module__ == module:
            found[name] = _defaults(value)
        elif name.isupper() and not name.startswith("_") and type(value).__name__ in _PLAIN:
            found[name] = _shown(value)
    return {name: fact for name, fact in found.items() if fact}


def before(module: str) -> dict[str, str]:
    """What stands in the table."""
    return json.loads(STORED.read_text(encoding="utf-8"))[module]


def _of_class(kind: type) -> Iterator[tuple[str, str]]:
    if "__init__" in vars(kind):
        yield "", _defaults(kind)
    for name, value in vars(kind).items():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and name != "__init__":
            yield f".{name}", _defaults(function)
        elif not name.startswith("_") and type(value).__name__ in _PLAIN:
            yield f".{name}", _shown(value)


def _defaults(of: Any) -> str:
    given = inspect.signature(of).parameters.values()
    return "; ".join(f"{each.name}={_shown(each.default)}" for each in given if each.default is not each.empty)


def _shown(value: Any) -> str:
    """The same on every machine: sets in order, an object without its address."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_shown(part)}' for key, part in value.items())}}}"
    if isinstance(value, (set, frozenset)):
        return repr(sorted(value))
    shown = repr(value.tolist() if hasattr(value, "tolist") else value)
    return getattr(value, "__name__", type(value).__name__) if " at 0x" in shown else shown


if __name__ == "__main__":
    from test_dfg_stated import MODULES as DFG
    from test_oanet_stated import MODULES as OANET
    from test_oanet_stated import presets

    table = {module: stated(module) for module in (*DFG, *OANET)} | {"presets": presets()}
    table["dfg.known"].pop("CODE")  # of the installed Python
    STORED.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
