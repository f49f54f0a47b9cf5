"""Read an experiment: YAML and dotted overrides, with errors that name the fix."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipelines.errors import AgfasError
from pipelines.experiment.config import Experiment
from pipelines.experiment.profile import in_profile
from pipelines.settings import explain


def read_experiment(path: Path | None, overrides: Iterable[str] = ()) -> Experiment:
    """The experiment of a YAML file (default: all defaults) with `key.sub=value` overrides applied in order.

    Raises:
        AgfasError: the file is missing or no YAML, an override has no `=`, a key is unknown, a value not allowed.
    """
    content = read_mapping(path, advice="Those that come with the project are in configs/.") if path else {}
    for override in overrides:
        set_dotted(content, *read_override(override))
    return build_experiment(content, str(path) if path else "the command line")


def read_override(override: str) -> tuple[str, Any]:
    """The dotted key and the value of `key.sub=value`, whose value is YAML.

    Raises:
        AgfasError: it has no `=`, or its value is not valid YAML.
    """
    key, sign, text = override.partition("=")
    if not sign:
        raise AgfasError(f"'{override}' is not an override. Write key=value, for example cue.timestep=401.")
    try:
        return key.strip(), yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = str(error).splitlines()[0]
        raise AgfasError(f"The value of '{override}' is not valid YAML ({where}). Put quotes around text.") from None


def build_experiment(content: dict[str, Any], where: str) -> Experiment:
    """Validate a plain mapping as an experiment, in its profile; `where` is named in the refusal."""
    try:
        return in_profile(Experiment.model_validate(content))
    except ValidationError as error:
        raise AgfasError(explain(error, Experiment, where)) from None


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


def read_mapping(path: Path, what: str = "configuration", advice: str = "Check the name.") -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Args:
        path: the file.
        what: what to call the file in an error.
        advice: what to do if it is missing.

    Raises:
        AgfasError: no such file, no YAML, or no mapping.
    """
    if not path.is_file():
        raise AgfasError(f"No {what} at {path}. {advice}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AgfasError(f"{path} is not valid YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise AgfasError(f"{path} must hold a mapping of keys to values, not a {type(content).__name__}.")
    return content or {}
