"""Write constraints.txt: the versions here of all that `agfas[dev]` brings. Run it after the tests have passed.

python -m scripts.constraints
python -m scripts.constraints --wheels    # instead: has each direct dependency wheels for every Python?
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from scripts.bench import CLONE

PATH = CLONE / "constraints.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def main() -> int:
    """Write the file, or look for wheels; exit code 1 if one is missing."""
    if "--wheels" in sys.argv[1:]:
        missing = [
            f"{need}: no wheel for Python {python}"
            for python in PYTHONS
            for need in direct()
            if not has_wheel(need, python)
        ]
        print(
            "\n".join(missing)
            or f"Every direct dependency has a wheel for Python {', '.join(PYTHONS)} on x86-64 Linux."
        )
        return bool(missing)
    lines = [f"{name}=={number}" for name, number in sorted(installed(direct()).items())]
    head = f"# The tests passed with these on Python {platform.python_version()}: pip install . -c constraints.txt"
    PATH.write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    return 0


def has_wheel(need: Requirement, python: str) -> bool:
    """Whether pip finds a wheel of a dependency for a Python on x86-64 Linux; nothing is installed."""
    tags = (
        "--implementation",
        "cp",
        *(part for abi in (f"cp{python.replace('.', '')}", "abi3", "none") for part in ("--abi", abi)),
    )
    systems = (part for glibc in ("2_28", "2_17") for part in ("--platform", f"manylinux_{glibc}_x86_64"))
    with tempfile.TemporaryDirectory() as nowhere:
        command = (
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"),
            *("--only-binary=:all:", "--python-version", python, *tags, *systems, "--target", nowhere, str(need)),
        )
        return subprocess.run(command, capture_output=True).returncode == 0


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
    sys.exit(main())
