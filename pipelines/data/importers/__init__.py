"""Importers: from a folder of pictures and videos in a known layout to what each file shows.

An importer is a function `find(source: Path, domain: str) -> list[SourceFace]` that opens no picture. It raises
`AgfasError` if the source is missing, empty, or has another layout. To add one, copy `oulu_npu` and list it in
`_MODULES`. An importer of another package needs no line here: use its address `module:function` as the name (or
`module:Class`, whose instance is called), or register it as an entry point of the group `agfas.importers`.

Constants in the module of an importer describe the dataset. All are optional: `TITLE`, `CITATION`, `LICENCE`,
`VERIFIED` (what was checked against a real copy) and `EXPECTED` (the number of videos of a full copy, see
`layout.check_counts`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from oanet.registry import Registry
from pipelines.data.importers.source import SourceFace
from pipelines.errors import AgfasError

# Importers that are the function `find` of the module of their name.
_MODULES = (
    *("folder", "hf", "msu_mfsd", "casia_fasd", "replay_attack", "oulu_npu", "hkbu_mars", "wffd", "rose_youtu", "siw"),
    *("wmca", "celeba_spoof", "ffhq", "threedmad", "csmad", "msspoof", "nuaa", "utkface"),
)
IMPORTERS = Registry(
    kind="importer",
    group="agfas.importers",
    builtin={
        **{name: f"{__name__}.{name}:find" for name in _MODULES},
        "live": f"{__name__}.folder:find_live",
        "csv": f"{__name__}.csv_file:find",
    },
)

# Called with the source and the domain; `hf` also takes options.
Importer = Callable[..., list[SourceFace]]


def importer_module(name: str) -> ModuleType:
    """The module of an importer, with its constants.

    Raises:
        AgfasError: no importer has this name, or it cannot be imported.
    """
    return import_module(load_importer(name).__module__)


def load_importer(name: str) -> Importer:
    """The importer of a name, an address or an entry point.

    Raises:
        AgfasError: no importer has this name, or it cannot be imported.
    """
    try:
        found = IMPORTERS.load(name)
    except ValueError as error:
        raise AgfasError(str(error)) from error
    return found() if isinstance(found, type) else found
