"""Read an experiment: YAML and dotted overrides, with errors that name the fix."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from pydantic import ValidationError

from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.profile import in_profile
from pipelines.experiment.shipped import find_config
from pipelines.plain_yaml import parse_value, read_yaml
from pipelines.settings import explain, kinds_at, shortened


def read_experiment(path: Path | None, overrides: Iterable[str] = ()) -> Experiment:
    """The experiment of a YAML file, or of a shipped one by name, with `key.sub=value` overrides applied in order.

    Without a file, all defaults.

    Raises:
        AgfasError: the file is missing or no YAML, an override has no `=`, a key is unknown, a value not allowed.
    """
    path = path and find_config(path)
    content = read_mapping(path) if path else {}
    given = {}
    for override in overrides:
        key, value = read_override(override)
        set_dotted(content, key, value)
        given[key] = override
    return build_experiment(content, str(path) if path else "the command line", given)


def read_override(override: str) -> tuple[str, Any]:
    """The dotted key and the value of `key.sub=value`.

    Where text or a path is wanted, the value is taken as it stands; elsewhere it may be a number, a truth value, null,
    or YAML in brackets or braces. Text in quotes is what stands between them.

    Raises:
        AgfasError: it has no `=`, or its value cannot be read whole.
    """
    key, sign, text = override.partition("=")
    if not sign:
        raise AgfasError(f"'{override}' is not an override. Write key=value, for example cue.timestep=401.")
    key, where = key.strip(), f"The override '{shortened(override)}'"
    if override != override.encode(errors="replace").decode():
        raise AgfasError(f"{where} is not UTF-8 text. Rename the folder or file that it names.")
    kinds = kinds_at(key, Experiment)
    if not kinds or not kinds <= {str, Path, NoneType} or text.startswith(("'", '"')):
        return key, parse_value(text, where)
    if text != text.strip():
        raise AgfasError(f"{where}: its text begins or ends with a space. Remove it, or put quotes around the text.")
    return key, None if NoneType in kinds and text in ("", "~", "null") else text


def build_experiment(content: dict[str, Any], where: str, overrides: Mapping[str, str] | None = None) -> Experiment:
    """Validate a plain mapping as an experiment, in its profile.

    Args:
        content: the mapping.
        where: what it is from, named in a refusal.
        overrides: those that changed it, by their keys; a refusal of what one of them set names it.
    """
    try:
        return in_profile(Experiment.model_validate(content))
    except ValidationError as error:
        raise AgfasError(explain(error, Experiment, where, overrides or {})) from None


def with_overrides(experiment: Experiment, changes: dict[str, Any]) -> Experiment:
    """The experiment with dotted keys set; a key without a dot replaces its whole block."""
    content = experiment.model_dump(mode="json", exclude_unset=True)
    for key, value in changes.items():
        set_dotted(content, key, value)
    return build_experiment(content, "the sweep")


def set_dotted(content: dict[str, Any], key: str, value: Any) -> None:
    """Set `a.b.c` in nested mappings, creating missing ones."""
    *parents, last = key.split(".")
    if not all((*parents, last)):
        raise AgfasError(f"'{key}' is not a key. Write its parts with dots between, for example cue.timestep.")
    block = content
    for parent in parents:
        inner = block.get(parent)
        if inner is None:
            inner = block[parent] = {}
        if not isinstance(inner, dict):
            raise AgfasError(f"'{key}' cannot be set: '{parent}' is the value {inner!r}, not a block.")
        block = inner
    block[last] = copy.deepcopy(value)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Args:
        path: the file.

    Raises:
        AgfasError: no such file, no YAML, or no mapping.
    """
    if not path.is_file():
        raise AgfasError(f"No file at {path}. Check the name.")
    content = read_yaml(path)
    if content is not None and not isinstance(content, dict):
        raise AgfasError(f"{path} must hold a mapping of keys to values, not a {type(content).__name__}.")
    return content or {}
