"""Importers: from a folder of pictures in a known layout to what each picture is.

An importer is a function `(source: Path, domain: str) -> list[SourceFace]` in a file of its own, with a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from pipelines.data.importers.source import SourceFace

IMPORTERS = {
    "folder": "pipelines.data.importers.folder:find",
    "nuaa": "pipelines.data.importers.nuaa:find",
    "live": "pipelines.data.importers.live:find",
}

Importer = Callable[[Path, str], list[SourceFace]]


def load_importer(name: str) -> Importer:
    """The importer of a name that `IMPORTERS` lists."""
    module, function = IMPORTERS[name].split(":")
    return getattr(import_module(module), function)
