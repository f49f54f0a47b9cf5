"""What the options of a registered class mean: its constructor's arguments, with what its docstring says of each.

Read from the source, so that nothing is imported.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from oanet.registry import Registry, find_definition


@dataclass(frozen=True)
class Option:
    """One argument of a constructor.

    Attributes:
        name: as a configuration writes it.
        kind: the annotation, as the source writes it; empty without.
        default: as the source writes it; None: it must be given.
        meaning: what the docstring says.
    """

    name: str
    kind: str
    default: str | None
    meaning: str


def described_options(registry: Registry, name: str) -> list[Option]:
    """The options of a name, in the constructor's order.

    Raises:
        ValueError: the name is unknown, or its constructor names no options.
    """
    allowed, address = registry.options(name), registry.address(name)
    arguments: dict[str, tuple[str, str | None]] = {}
    meanings: dict[str, str] = {}
    for node in registry.sources(name):
        meanings = {**_meanings(ast.get_docstring(node) or "", address.partition(":")[0]), **meanings}
        made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        arguments = arguments or (_arguments(made[0].args) if made else {})
    return [
        Option(option, *arguments.get(option, ("", None)), meanings.get(option, f"See {address}."))
        for option in allowed
    ]


def _arguments(given: ast.arguments) -> dict[str, tuple[str, str | None]]:
    """Annotation and default of each argument."""
    plain = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [
        *[None] * (len(plain) - len(given.defaults)),
        *given.defaults,
        *given.kw_defaults,
    ]
    pairs = zip([*plain, *given.kwonlyargs], defaults, strict=True)
    return {
        item.arg: (
            "" if item.annotation is None else ast.unparse(item.annotation),
            None if default is None else ast.unparse(default),
        )
        for item, default in pairs
    }


def _meanings(docstring: str, module: str) -> dict[str, str]:
    """What the section `Args:` says of each argument; those named together share their text."""
    section = re.search(r"^Args:\n((?:(?: .*)?\n?)*)", docstring, re.MULTILINE)
    found: dict[str, str] = {}
    for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE):
        sentence = " ".join(text.split())
        elsewhere = _elsewhere(sentence, module)
        for name in names.split(", "):
            # `cue_stages` is handed on as `stages`, `backbone_options` as `options`.
            handed_on = (name, name.removeprefix("cue_"), name.replace("cue_", "in_"), name.rpartition("_")[2])
            meaning = next((elsewhere[other] for other in handed_on if other in elsewhere), sentence)
            found[name] = f"{meaning[:1].upper()}{meaning[1:]}"
    return found


def _elsewhere(sentence: str, module: str) -> dict[str, str]:
    """The meanings in the docstring that "see `module.name`" or "see `name`" leads to; empty without such words."""
    place = re.match(r"see `(?:([\w.]+)\.)?(\w+)`", sentence)
    found = find_definition(place[1] or module, place[2]) if place else None
    return _meanings(ast.get_docstring(found[1]) or "", found[0]) if found else {}
