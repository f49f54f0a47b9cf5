"""Every key of a configuration with its type, default and meaning: for people, and as JSON schema for editors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from oanet.described import Option, described_options
from oanet.names import DETECTORS, OBJECTIVES
from pipelines.errors import AgfasError, nearest
from pipelines.experiment.config import Experiment

Schema = dict[str, Any]

_REQUIRED = "no default"
_REGISTRIES = {"detector": DETECTORS, "objective": OBJECTIVES}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
}
_TYPES = {"integer": "integer", "number": "number", "boolean": "true or false", "object": "block", "null": "null"}


@dataclass(frozen=True)
class Key:
    """One key in one block.

    Attributes:
        name: dotted, as an override writes it.
        kind: what values it takes, in words.
        default: as YAML writes it; empty for a block.
        meaning: of the key; of a block's `name`, what the block is.
        block: the key of the block that may stand there in several kinds; empty without.
        variant: the `name` of its kind.
        variants: the number of kinds.
    """

    name: str
    kind: str
    default: str
    meaning: str
    block: str = ""
    variant: str = ""
    variants: int = 1


@dataclass(frozen=True)
class Explained:
    """What is said of one key.

    Attributes:
        name: dotted.
        facts: values, default, and where it stands.
        meaning: a line; of a block that is chosen by its name, a line for each.
    """

    name: str
    facts: str
    meaning: tuple[str, ...]

    def lines(self) -> list[str]:
        """For a terminal."""
        return [f"{self.name}: {self.facts}", *(f"    {line}" for line in self.meaning)]


def json_schema() -> Schema:
    """The JSON schema of an experiment; what editors show beside a key is its description."""
    schema = Experiment.model_json_schema()
    for block in (schema, *schema["$defs"].values()):
        for name, field in block.get("properties", {}).items():
            field.pop("title", None)
            if "description" not in field:
                described = block if name == "name" else _referred(schema, field)
                field["description"] = described.get("description", "")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "AG-FAS experiment"}


@lru_cache(maxsize=1)
def keys() -> tuple[Key, ...]:
    """Every key of every block, in the order of the settings; one that several kinds of a block have comes often."""
    schema = json_schema()
    return tuple(_keys_of(schema, schema, "", {}))


def explained(asked: str | None = None) -> list[str]:
    """The lines that explain every key, or those of a block, one key, or a detector's or objective's options.

    Args:
        asked: a dotted key or block; `detector.name=oanet` for the options of one; None for all.

    Raises:
        AgfasError: there is no such key.
    """
    lines = [line for entry in entries(asked) for line in entry.lines()]
    if asked in _REGISTRIES:
        names = ", ".join(_REGISTRIES[asked].builtin)
        lines.append(f"Other keys are options of the {asked}: `agfas config {asked}.name=NAME`. Names: {names}.")
    return lines or [f"{asked.partition('=')[2] if asked else ''} has no options."]


def entries(asked: str | None = None) -> list[Explained]:
    """What `explained` says, key by key; empty for a detector or an objective without options."""
    block, _, name = (asked or "").partition(".name=")
    if name and block in _REGISTRIES:
        return _options(block, name)
    chosen = [key for key in keys() if asked is None or f"{key.name}.".startswith(f"{asked}.")]
    if not chosen and asked not in _REGISTRIES:
        raise AgfasError(f"No key '{asked}'; {nearest(str(asked), {key.name for key in keys()})}")
    named = [list(group) for _, group in groupby(sorted(chosen, key=_place), key=lambda key: key.name)]
    return [entry for group in named for entry in _entries_of(group)]


def _place(key: Key) -> int:
    """Where the key's name comes first, so that those of one name stand together."""
    return next(place for place, other in enumerate(keys()) if other.name == key.name)


def _keys_of(schema: Schema, node: Schema, prefix: str, defaults: Any, **kind: Any) -> Iterator[Key]:
    for name, field in node.get("properties", {}).items():
        default = defaults[name] if isinstance(defaults, dict) and name in defaults else field.get("default", _REQUIRED)
        inner = _blocks_in(schema, field)
        shown = "" if inner and isinstance(default, dict) else _as_yaml(default)  # a block's keys have their own
        yield Key(prefix + name, _kind(field, inner), shown, field["description"], **kind)
        listed = "[]" if field.get("type") == "array" else ""
        for one in inner:
            variant = one["properties"].get("name", {}).get("const", "")
            own = default if isinstance(default, dict) and variant in ("", default.get("name")) else {}
            several = {"block": prefix + name, "variant": variant, "variants": len(inner)} if len(inner) > 1 else kind
            yield from _keys_of(schema, one, f"{prefix}{name}{listed}.", own, **several)


def _blocks_in(schema: Schema, field: Schema) -> list[Schema]:
    """The blocks that may stand at a field, or in its list."""
    parts = [field, *field.get("oneOf", []), *field.get("anyOf", []), field.get("items") or {}]
    parts += [inner for part in parts[1:] for inner in part.get("oneOf", [])]
    return [_referred(schema, part) for part in parts if "$ref" in part]


def _referred(schema: Schema, field: Schema) -> Schema:
    found: Schema = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
    return found


def _kind(field: Schema, inner: list[Schema]) -> str:
    if field.get("type") != "array" and any("$ref" in part for part in (field, *field.get("oneOf", []))):
        return "block" if len(inner) == 1 else "block, chosen by its name"
    if "anyOf" in field:
        return " or ".join(_kind(part, inner) for part in field["anyOf"])
    if "const" in field or "enum" in field:
        values = [_as_yaml(value) for value in field.get("enum", [field.get("const")])]
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    if field.get("type") == "array":
        items: Schema = field.get("items") or next(iter(field.get("prefixItems", [])), {})
        return f"list of {_kind(items, inner)}"
    if field.get("type") == "string":
        return "path" if field.get("format") == "path" else "text"
    bounds = [text.format(_as_yaml(field[name])) for name, text in _BOUNDS.items() if name in field]
    return " ".join(
        [_TYPES.get(field.get("type", ""), "any value"), *bounds[:1], *(f"and {text}" for text in bounds[1:])]
    )


def _as_yaml(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_as_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_as_yaml(inner)}" for name, inner in value.items()) + "}"
    return str(value)


def _entries_of(same: list[Key]) -> list[Explained]:
    """One name: its kinds, its defaults, and its meanings, each with the kinds of block that it is of."""
    if len({key.variant for key in same if key.name.endswith(".name")}) > 1:
        default = next((key.default for key in same if key.default != _REQUIRED), _REQUIRED)
        names = ", ".join(key.variant for key in same)
        meanings = tuple(f"{key.variant}: {key.meaning}" for key in same)
        return [Explained(same[0].name, f"one of {names}; default {default}", meanings)]
    found = []
    for (kind, meaning), group in groupby(same, key=lambda key: (key.kind, key.meaning)):
        keys_here = list(group)
        defaults = {key.default: "" for key in keys_here}
        if len(defaults) > 1:
            for default in defaults:
                of = ", ".join(key.variant for key in keys_here if key.default == default)
                defaults[default] = f" ({of})"
        texts = [
            default if default == _REQUIRED else f"default {default}{of}" for default, of in defaults.items() if default
        ]
        first = keys_here[0]
        some = len(keys_here) < first.variants
        where = f", with {first.block}.name = {' or '.join(key.variant for key in keys_here)}" if some else ""
        found.append(Explained(first.name, f"{'; '.join([kind, *texts])}{where}", (meaning,)))
    return found


def _options(block: str, name: str) -> list[Explained]:
    try:
        options = described_options(_REGISTRIES[block], name)
    except ValueError as error:
        raise AgfasError(str(error)) from None
    return [_entry_of(block, option) for option in options]


def _entry_of(block: str, option: Option) -> Explained:
    default = _REQUIRED if option.default is None else f"default {option.default}"
    return Explained(f"{block}.{option.name}", f"{option.kind or 'any value'}; {default}", (option.meaning,))
