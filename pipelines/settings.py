"""What every block of settings shares: strict models, and one explanation of what is wrong with a value."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipelines.errors import nearest

Unit = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""


class Strict(BaseModel):
    """A block that refuses unknown keys and cannot be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def named(default: str) -> BeforeValidator:
    """Let a block without `name` be the default one, so that `data.size=96` is enough."""
    return BeforeValidator(lambda value: {"name": default, **value} if isinstance(value, dict) else value)


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Every fault of a validation in one text: the key as the user wrote it, the value, and what is allowed.

    Args:
        error: of the validation of `model`.
        model: the root model, whose fields name the keys that are allowed.
        where: the file or command that gave the values.
    """
    return f"In {where}: " + " ".join(_explain_one(dict(item), model) for item in error.errors())


def _explain_one(item: dict[str, Any], model: type[BaseModel]) -> str:
    full = [str(part) for part in item["loc"]]
    place = _without_tags(full, model)
    if item["type"] == "extra_forbidden":
        allowed = _fields_at(full[:-1], model)
        hint = nearest(place[-1], allowed) if allowed else ""
        return f"unknown key '{'.'.join(place)}'; {hint}"
    message = item["msg"].removeprefix("Value error, ")
    return f"'{'.'.join(place)}' = {item.get('input')!r}: {message}." if place else f"{message}."


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


def _step(model: type[BaseModel], part: str) -> list[type[BaseModel]]:
    if part in model.model_fields:
        return _models_in(model.model_fields[part].annotation)
    tag = model.model_fields.get("name")
    return [model] if tag is not None and part in str(tag.annotation) else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]
