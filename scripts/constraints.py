"""Write constraints.txt: the versions here of all that `agfas[dev]` brings. Run it after the tests have passed.

python -m scripts.constraints
"""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from scripts.bench import CLONE

PATH = CLONE / "constraints.txt"


def main() -> None:
    """Write the file."""
    lines = [f"{name}=={number}" for name, number in sorted(installed(direct()).items())]
    head = f"# The tests passed with these on Python {platform.python_version()}: pip install . -c constraints.txt"
    PATH.write_text("\n".join([head, *lines, ""]), encoding="utf-8")


def direct() -> list[Requirement]:
    """What pyproject.toml asks for: the dependencies, and those of the extra `dev`."""
    text = (CLONE / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(r"^(?:dependencies|dev) = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    return [Requirement(name) for part in lists for name in re.findall(r'"([^"]+)"', part)]


def installed(needs: list[Requirement]) -> dict[str, str]:
    """Versions here of what is needed, and of what that needs, by canonical name; without local labels."""
    found: dict[str, str] = {}
    waiting, seen = list(needs), set()
    while waiting:
        need = waiting.pop()
        asked = (canonical(need.name), *sorted(need.extras))
        if asked in seen:
            continue
        seen.add(asked)
        try:
            found[asked[0]] = version(need.name).partition("+")[0]
        except PackageNotFoundError:  # of an option of a package, and not installed
            continue
        deeper = map(Requirement, requires(need.name) or [])
        waiting += [other for other in deeper if _applies(other, need.extras)]
    return found


def canonical(name: str) -> str:
    """A package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _applies(need: Requirement, extras: set[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))


if __name__ == "__main__":
    main()
