"""The configurations that come with the project: found by name, wherever the program runs.

In a clone they are `configs/`; an installed package carries the same files. `loo`, `detectors/vit` and, as the
documents write it, `configs/loo.yaml` name them; a file of the user's with the given name goes first.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pipelines
from pipelines.errors import AgfasError, nearest

FOLDER = "configs"
# What is no experiment: settings of launchers, of tables, and the recipe of `agfas prepare`.
_OTHERS = ("accelerate/", "paper/", "prepare")


@lru_cache(maxsize=1)
def shipped_folder() -> Path:
    """The folder of the shipped configurations."""
    package = Path(pipelines.__file__).parent
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parent / FOLDER


@lru_cache(maxsize=1)
def shipped() -> dict[str, Path]:
    """Every shipped file by its name, the path within the folder without its ending."""
    folder = shipped_folder()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def shipped_experiments() -> list[str]:
    """Names of the shipped experiments, those without a folder first."""
    names = [name for name in shipped() if not name.startswith(_OTHERS)]
    return sorted(names, key=lambda name: ("/" in name, name))


def listing() -> list[str]:
    """A line for every shipped file, its name and the first sentence of its opening comment; and the folder."""
    width = max(map(len, shipped()))
    lines = [f"{name:{width}}  {_title(path)}" for name, path in shipped().items()]
    return [*lines, f"In {shipped_folder()}"]


def _title(path: Path) -> str:
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        comment.append(line[2:].strip())
    return re.split(r"(?<!et al)\.(?=\s|$)", " ".join(comment), maxsplit=1)[0]


def find_config(path: Path, what: str = "configuration") -> Path:
    """The file at a path or, if there is none, the shipped one of that name.

    Args:
        path: what the user gave.
        what: what to call the file in an error.

    Raises:
        AgfasError: neither exists.
    """
    if path.is_file():
        return path
    name = path.as_posix().removeprefix(f"{FOLDER}/").removesuffix(".yaml")
    if name in shipped():
        return shipped()[name]
    close = nearest(name, shipped_experiments()).partition("Allowed")[0]
    hint = f" {close[0].upper()}{close[1:].strip()}" if close else ""
    raise AgfasError(
        f"No {what} at {path}.{hint} Those that come with the project (configs/) are found by name from anywhere:"
        " `agfas config --list`."
    )


def find_folder(path: Path, pattern: str) -> Path:
    """A folder that holds files of a pattern or, if it does not and has the name of a shipped one, that one."""
    inside = shipped_folder() / path.as_posix().removeprefix(f"{FOLDER}/")
    return inside if not any(path.glob(pattern)) and any(inside.glob(pattern)) else path
