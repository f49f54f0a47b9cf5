"""Importers: from a folder of pictures and videos in a known layout to what each file shows.

An importer is a function `find(source: Path, domain: str) -> list[SourceFace]` that opens no picture. It raises
`AgfasError` if the source is missing, empty, or has another layout. `oulu_npu` is a short one to copy; add it to
`IMPORTERS`. An importer of another package needs no line here: give its address `module:function` (or `module:Class`,
whose instance is called) as the name, or register it as an entry point of group `agfas.importers`.

The module of an importer has constants that describe the dataset: `TITLE`, `CITATION`, `LICENCE`, `VERIFIED` (what was
checked against a real copy) and `EXPECTED` (the number of videos of a full copy, see `layout.check_counts`). Only
`EXPECTED` and `LICENCE` are used if they exist; the others are for the reader.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from pipelines.data.importers.source import SourceFace
from pipelines.errors import AgfasError, nearest

IMPORTERS = {
    "folder": "pipelines.data.importers.folder:find",
    "live": "pipelines.data.importers.folder:find_live",
    "csv": "pipelines.data.importers.csv_file:find",
    "hf": "pipelines.data.importers.hf:find",
    "msu_mfsd": "pipelines.data.importers.msu_mfsd:find",
    "casia_fasd": "pipelines.data.importers.casia_fasd:find",
    "replay_attack": "pipelines.data.importers.replay_attack:find",
    "oulu_npu": "pipelines.data.importers.oulu_npu:find",
    "hkbu_mars": "pipelines.data.importers.hkbu_mars:find",
    "wffd": "pipelines.data.importers.wffd:find",
    "rose_youtu": "pipelines.data.importers.rose_youtu:find",
    "siw": "pipelines.data.importers.siw:find",
    "wmca": "pipelines.data.importers.wmca:find",
    "celeba_spoof": "pipelines.data.importers.celeba_spoof:find",
    "ffhq": "pipelines.data.importers.ffhq:find",
    "threedmad": "pipelines.data.importers.threedmad:find",
    "csmad": "pipelines.data.importers.csmad:find",
    "msspoof": "pipelines.data.importers.msspoof:find",
    "nuaa": "pipelines.data.importers.nuaa:find",
    "utkface": "pipelines.data.importers.utkface:find",
}

# Called with the source and the domain; `hf` takes options besides.
Importer = Callable[..., list[SourceFace]]


def importer_module(name: str) -> ModuleType:
    """The module of an importer.

    Raises:
        AgfasError: there is no importer of this name.
    """
    if name not in IMPORTERS:
        raise AgfasError(f"No importer is called {name!r}; {nearest(name, IMPORTERS)}")
    return import_module(IMPORTERS[name].partition(":")[0])


def load_importer(name: str) -> Importer:
    """The importer of a name; errors as of `importer_module`."""
    return getattr(importer_module(name), IMPORTERS[name].partition(":")[2])
