"""Importers: from a folder of pictures and videos in a known layout to what each of them is.

An importer is a module with a function `find(source: Path, domain: str) -> list[SourceFace]`, which opens no picture,
and a line here. Its constants say of the dataset: `TITLE`, `CITATION`, `LICENCE`, `VERIFIED` (what of it was checked
against a real copy) and `EXPECTED` (how many videos a whole copy has; see `expected.check_counts`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from pipelines.data.importers.source import SourceFace
from pipelines.errors import AgfasError, nearest

IMPORTERS = {
    "folder": "pipelines.data.importers.folder:find",
    "csv": "pipelines.data.importers.csv_file:find",
    "hf": "pipelines.data.importers.hf:find",
    "live": "pipelines.data.importers.live:find",
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
    """The module of an importer that `IMPORTERS` lists.

    Raises:
        AgfasError: there is no importer of this name.
    """
    if name not in IMPORTERS:
        raise AgfasError(f"No importer is called {name!r}; {nearest(name, IMPORTERS)}")
    return import_module(IMPORTERS[name].partition(":")[0])


def load_importer(name: str) -> Importer:
    """The importer of a name that `IMPORTERS` lists; errors as of `importer_module`."""
    return getattr(importer_module(name), IMPORTERS[name].partition(":")[2])
