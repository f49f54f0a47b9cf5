"""What every block of settings shares: strict models, what enters an artefact's name, and how a fault is explained.

Every field decides a result, and so enters the names of artefacts, unless it is marked:

    Annotated[int, Bystander()]                    changes no result
    Annotated[bool, Added()]                       enters unless it has its default
    Annotated[Path, Content()]                     enters by the content of the files at this place
    Annotated[str, Content(subfolder="field")]     the same; what is no place on this machine is an id of the hub
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipelines.errors import AgfasError, nearest
from pipelines.fingerprint import WEIGHT_SUFFIXES, content_sha256

Block = TypeVar("Block", bound=BaseModel)

Unit = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""


LARGEST = (1 << 31) - 1
"""Of a setting that is no seed; what is beyond it is a slip, and would fail late or never end."""


class Strict(BaseModel):
    """A block that refuses unknown keys and numbers that no setting has, and cannot be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, content: Any) -> Any:
        given = content if isinstance(content, dict) else {}
        for name in [name for name, value in given.items() if isinstance(value, bool) and name in cls.model_fields]:
            if _kinds(cls.model_fields[name].annotation) <= {int, float, NoneType}:
                raise ValueError(f"{name} is a number, not {str(given[name]).lower()}")
        return content

    @field_validator("*")
    @classmethod
    def _possible_number(cls, value: Any, info: ValidationInfo) -> Any:
        beyond = isinstance(value, (int, float)) and LARGEST < abs(value) < math.inf
        if beyond and "seed" not in str(info.field_name):
            raise ValueError(f"give a number between -{LARGEST} and {LARGEST}")
        return value


class Recorded(Strict):
    """A block of measured numbers, which may be infinite or missing."""

    model_config = ConfigDict(allow_inf_nan=True)


def named(default: str) -> BeforeValidator:
    """Let a block without `name` be the default one, so that `data.size=96` is enough."""
    return BeforeValidator(lambda value: {"name": default, **value} if isinstance(value, dict) else value)


class Bystander:
    """Marks a field that changes no result, such as when checkpoints are written."""


class Added:
    """Marks a field of a later version: at its default it enters no name, so that older artefacts keep theirs."""


@dataclass(frozen=True)
class Content:
    """Marks a field that names files, which enter by their content and not by their place.

    Attributes:
        subfolder: name of the field that says where the files are in that place.
        suffixes: of the files that count.
        words: values that name no place, whatever lies there.
    """

    subfolder: str = ""
    suffixes: tuple[str, ...] = WEIGHT_SUFFIXES
    words: tuple[str, ...] = attribute(default=(), repr=False)


def decisive(settings: BaseModel, block: str) -> dict[str, Any]:
    """The fields that decide a result, in JSON's types: what enters the name of an artefact.

    Args:
        settings: a block of a configuration.
        block: its key there, for errors.

    Raises:
        AgfasError: a file or folder that a `Path` names does not exist.
    """
    content = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if not enters_names(settings, name):
            del content[name]
        elif isinstance(value, BaseModel):
            content[name] = decisive(value, f"{block}.{name}")
        for mark in field.metadata:
            if isinstance(mark, Content) and value is not None and value not in mark.words:
                content |= _by_content(settings, block, name, mark)
    return content


def enters_names(settings: BaseModel, name: str) -> bool:
    """Whether a field's marks let it enter names."""
    field = type(settings).model_fields[name]
    is_default = getattr(settings, name) == field.default
    return not any(isinstance(mark, Bystander) or (isinstance(mark, Added) and is_default) for mark in field.metadata)


def _by_content(settings: BaseModel, block: str, name: str, mark: Content) -> dict[str, Any]:
    value = getattr(settings, name)
    place = Path(value, getattr(settings, mark.subfolder) or "") if mark.subfolder else Path(value)
    if place.exists():
        within = {mark.subfolder: None} if mark.subfolder else {}
        return {name: f"sha256:{content_sha256(place, mark.suffixes)}", **within}
    if isinstance(value, Path):
        raise AgfasError(f"{block}.{name} = {place} does not exist. Correct this path in the configuration.")
    return {}


def with_absolute_paths(settings: Block) -> Block:
    """The same settings with every place on this machine as an absolute path, for a process in another folder."""
    changes = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        marks = [mark for mark in field.metadata if isinstance(mark, Content)]
        changes[name] = _absolute(value, any(value not in mark.words for mark in marks))
    return settings.model_copy(update=changes)


def _absolute(value: Any, is_place: bool) -> Any:
    if isinstance(value, BaseModel):
        return with_absolute_paths(value)
    if isinstance(value, list):
        return [_absolute(item, is_place) for item in value]
    if isinstance(value, Path):
        return value.absolute()
    return str(Path(value).absolute()) if is_place and value is not None and Path(value).exists() else value


def explain(
    error: ValidationError, model: type[BaseModel], where: str, overrides: Mapping[str, str] | None = None
) -> str:
    """Every fault of a validation in one text: the key as the user wrote it, the value, and what is allowed.

    Args:
        error: of the validation of `model`.
        model: the root model, whose fields name the keys that are allowed.
        where: the file or command that gave the values.
        overrides: those given beside it, by their keys; a fault of what one of them set is said to be its own.
    """
    faults: dict[str, list[str]] = {}
    for item in error.errors():
        place, fault = (
            ".".join(_without_tags([str(part) for part in item["loc"]], model)),
            _explain_one(dict(item), model),
        )
        faults.setdefault(blamed(place, where, overrides or {}, fault), []).append(fault)
    return " ".join(f"In {source}: {' '.join(texts)}" for source, texts in faults.items())


def blamed(place: str, where: str, overrides: Mapping[str, str], fault: str = "") -> str:
    """The override that set a place, or those that changed something in the faulty block; otherwise the file.

    Of several of these, the ones whose keys the `fault` names.
    """
    setting = [override for key, override in overrides.items() if f"{place}.".startswith(f"{key}.")]
    inside = {key: override for key, override in overrides.items() if not place or key.startswith(f"{place}.")}
    if not setting and not inside:
        return where
    chosen = setting[-1:] or [text for key, text in inside.items() if key in fault] or list(inside.values())
    named = [f"'{shortened(override)}'" for override in chosen]
    return f"the override{'s' * (len(named) > 1)} {' '.join(named)}" + ("" if setting else f" to {where}")


def _explain_one(item: dict[str, Any], model: type[BaseModel]) -> str:
    full = [str(part) for part in item["loc"]]
    place = _without_tags(full, model)
    if item["type"] == "extra_forbidden":
        allowed = _fields_at(full[:-1], model)
        hint = nearest(place[-1], allowed) if allowed else ""
        return f"unknown key '{'.'.join(place)}'; {hint}"
    if item["type"] == "missing":
        return f"'{'.'.join(place)}' is missing."
    message = item["msg"].removeprefix("Value error, ").rstrip(".")
    return f"'{'.'.join(place)}' = {shortened(repr(item.get('input')))}: {message}." if place else f"{message}."


def shortened(text: str) -> str:
    """A text for a message, cut after 200 characters."""
    return text if len(text) <= 200 else f"{text[:200]}..."


def _without_tags(place: list[str], model: type[BaseModel]) -> list[str]:
    """The place as an override would write it: pydantic adds the tag of a union (`generator.dfg.share`)."""
    models = [model]
    kept = []
    for part in place:
        inner = [found for one in models for found in _step(one, part)]
        is_tag = bool(inner) and not any(part in one.model_fields for one in models)
        kept += [] if is_tag else [part]
        models = inner or models
    return kept


def _fields_at(place: list[str], model: type[BaseModel]) -> list[str]:
    """The keys that the block at `place` allows."""
    models = [model]
    for part in place:
        models = [inner for one in models for inner in _step(one, part)] or models
    return sorted({name for one in models for name in one.model_fields})


def kinds_at(key: str, model: type[BaseModel]) -> set[Any]:
    """The types that the field of a dotted key takes in any of the blocks that may stand there; empty if unknown."""
    *parents, last = key.split(".")
    models = [model]
    for part in parents:
        models = [inner for one in models for inner in _step(one, part)]
    return {kind for one in models if last in one.model_fields for kind in _kinds(one.model_fields[last].annotation)}


def _kinds(annotation: Any) -> set[Any]:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return {kind for inner in get_args(annotation) for kind in _kinds(inner)}
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    return {type(value) for value in get_args(annotation)} if origin is Literal else {annotation}


def _step(model: type[BaseModel], part: str) -> list[type[BaseModel]]:
    if part in model.model_fields:
        return _models_in(model.model_fields[part].annotation)
    tag = model.model_fields.get("name")
    return [model] if tag is not None and part in get_args(tag.annotation) else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]
