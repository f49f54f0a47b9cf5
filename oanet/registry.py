"""Registries: classes by name, by `module:Class`, or from installed packages; checked without importing them.

A config is checked before torch is imported, so a class's options and attributes are parsed from its source file.
The class is imported only where its source does not tell: an extension module, or a class with several bases.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from oanet.checks import check_name, nearest


@dataclass(frozen=True)
class Registry:
    """Classes of one kind. A name is built in, or an entry point of an installed package, or `module:Class`.

    Args:
        kind: what the classes are, for error messages.
        group: entry-point group in which other packages offer theirs.
        builtin: name to `module:Class`; these names take precedence.
        supplied: constructor arguments that the program passes, and which therefore are no options.
        absent: names that are known but not implemented, and why.
    """

    kind: str
    group: str
    builtin: Mapping[str, str]
    supplied: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        """The built-in names, then those of installed packages."""
        yield from self.builtin
        yield from sorted({name for name, _ in self._installed()} - set(self.builtin))

    def address(self, name: str) -> str:
        """`module:Class` of a name.

        Raises:
            ValueError: the name is unknown or absent, or several packages offer it.
        """
        if name in self.absent:
            raise ValueError(f"The {self.kind} {name!r} is not offered: {self.absent[name]}.")
        if name in self.builtin:
            return self.builtin[name]
        if ":" in name:  # no entry point has a colon in its name
            return name
        found = {address for offered, address in self._installed() if offered == name}
        if not found:
            raise ValueError(f"Unknown {self.kind} {name!r}; {nearest(name, self)} Or an address: module:Class.")
        if len(found) > 1:
            raise ValueError(
                f"Several packages offer the {self.kind} {name!r}; use an address: {', '.join(sorted(found))}."
            )
        return found.pop()

    def load(self, name: str, base: type | None = None) -> Any:
        """Import the class (or function) of a name.

        Raises:
            ValueError: the import fails, or the class is not derived from `base`.
        """
        module, _, qualname = self.address(name).partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in qualname.split("."):
                found = getattr(found, part)
        except (ImportError, ValueError, AttributeError) as error:
            raise ValueError(
                f"The {self.kind} {name!r} cannot be imported from {module}: {error}. An address is module:Class;"
                " install the module's package, or put its folder on PYTHONPATH."
            ) from error
        if base is not None and not (isinstance(found, type) and issubclass(found, base)):
            raise ValueError(f"{name!r} is no {self.kind}: it must be a class derived from {base.__qualname__}.")
        return found

    def name_of(self, found: type) -> str:
        """The name under which a class can be looked up: its own `name` where that is registered, else its address."""
        name = getattr(found, "name", "")
        if name in self and self.load(name) is found:
            return name
        return f"{found.__module__}:{found.__qualname__}"

    def options(self, name: str) -> tuple[str, ...]:
        """Names of the constructor's arguments, without `supplied`.

        Raises:
            ValueError: the name is unknown, or its constructor takes `*args` or `**kwargs`, which name no option.
        """
        arguments = _constructor(self.address(name))
        if arguments is None:
            parameters = inspect.signature(self.load(name)).parameters
            if any(item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD) for item in parameters.values()):
                raise ValueError(
                    f"The {self.kind} {name!r} takes *args or **kwargs; the constructor's signature is the config,"
                    " so it must name every option."
                )
            arguments = tuple(parameters)
        return tuple(argument for argument in arguments if argument not in self.supplied)

    def attribute(self, name: str, attribute: str) -> Any:
        """The value of a class attribute, own or inherited; None without one.

        Raises:
            ValueError: the name is unknown.
        """
        for node in _lineage(self.address(name)):
            value = _assigned(node, attribute)
            if value is not None:
                try:
                    return ast.literal_eval(value)
                except ValueError:  # an expression: only an import can tell
                    break
        return getattr(self.load(name), attribute, None)

    def sources(self, name: str) -> Iterator[ast.ClassDef]:
        """The statements of a class and its bases, as far as source files tell.

        Raises:
            ValueError: the name is unknown.
        """
        return _lineage(self.address(name))

    def check(self, name: str, options: Iterable[str] = ()) -> None:
        """Raise ValueError, with the allowed names, for an unknown name or option."""
        allowed = self.options(name)
        for option in options:
            check_name(f"option of the {self.kind} {name!r}:", option, allowed)

    def _installed(self) -> list[tuple[str, str]]:
        from importlib.metadata import entry_points  # slow, and rarely needed

        return [(point.name, f"{point.module}:{point.attr}") for point in entry_points(group=self.group)]


def _constructor(address: str) -> tuple[str, ...] | None:
    """Arguments of `__init__` without `self`; None where the source does not tell."""
    for node in _lineage(address):
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                given = statement.args
                if given.vararg or given.kwarg:
                    return None
                return tuple(item.arg for item in (*given.posonlyargs, *given.args, *given.kwonlyargs))[1:]
    return None


def _assigned(node: ast.ClassDef, attribute: str) -> ast.expr | None:
    """What a class body assigns to an attribute."""
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
            return getattr(statement, "value", None)
    return None


def _lineage(address: str) -> Iterator[ast.ClassDef]:
    """A class and its bases, as far as each has one base whose source is found."""
    module, _, name = address.partition(":")
    seen: set[ast.ClassDef] = set()
    found = find_definition(module, name)
    while found is not None and isinstance(node := found[1], ast.ClassDef) and node not in seen:
        module = found[0]
        seen.add(node)
        yield node
        base = node.bases[0] if len(node.bases) == 1 else None
        found = find_definition(module, base.id) if isinstance(base, ast.Name) else None


def find_definition(module: str, name: str) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    """The module that defines a class or function, and the statement; follows `from ... import ...`."""
    spec = _find_module(module)
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        return None
    tree = _parse(str(spec.origin), Path(str(spec.origin)).stat().st_mtime_ns)
    for node in reversed(tree.body):  # the last binding of a name counts
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom):
            package = module if spec.submodule_search_locations else module.rpartition(".")[0]
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                    return find_definition(source, alias.name)
    return None


def _find_module(module: str) -> ModuleSpec | None:
    """`importlib.util.find_spec` that does not import the module's packages."""
    parts = module.split(".")
    try:
        spec = importlib.util.find_spec(parts[0])
    except (ImportError, ValueError):  # ValueError: `__main__` has no spec
        return None
    for part in parts[1:]:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    return spec


@lru_cache(maxsize=64)
def _parse(path: str, changed: int) -> ast.Module:
    """A file's syntax tree; `changed`, its time of change, is part of the cache's key."""
    try:
        return ast.parse(Path(path).read_bytes(), path)
    except SyntaxError as error:
        raise ValueError(f"{path} is not valid Python: {error}.") from error
