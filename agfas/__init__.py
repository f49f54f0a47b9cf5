"""AG-FAS for programs: what people import, each loaded when it is first used.

    import agfas

    detector = agfas.FaceAntiSpoofing.from_pretrained("model")     # or from_run, from_published
    print(detector("photo.jpg"))                                   # live, attack, no face, or refused with the reason
    faces = agfas.load_dataset("faces")                            # what `agfas prepare` or `agfas synth` wrote
    print(agfas.evaluate(detector, faces))                         # error rates at the detector's threshold

`DeFakePipeline` is the generator, a pipeline of diffusers; `OANet` the detector that its cue guides.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfg.pipeline import DeFakePipeline
    from oanet.model import OANet
    from pipelines import __version__
    from pipelines.data.records import load_faces as load_dataset
    from pipelines.verdict import FaceAntiSpoofing
    from pipelines.verdict.rates import evaluate

__all__ = ["DeFakePipeline", "FaceAntiSpoofing", "OANet", "__version__", "evaluate", "load_dataset"]

_PLACES = {
    "DeFakePipeline": "dfg.pipeline:DeFakePipeline",
    "FaceAntiSpoofing": "pipelines.verdict:FaceAntiSpoofing",
    "OANet": "oanet.model:OANet",
    "__version__": "pipelines:__version__",
    "evaluate": "pipelines.verdict.rates:evaluate",
    "load_dataset": "pipelines.data.records:load_faces",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'agfas' has no attribute {name!r}; it offers {', '.join(__all__)}")
    module, _, inner = _PLACES[name].partition(":")
    for package in {"pipelines", module.partition(".")[0]}:
        _check_ours(package)
    found = globals()[name] = getattr(import_module(module), inner)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _check_ours(package: str) -> None:
    """Raise ImportError if a package of this name, which is a common one, comes before ours."""
    spec, home = find_spec(package), Path(__file__).resolve().parents[1]
    place = Path(spec.origin).resolve().parents[1] if spec is not None and spec.origin else None
    if place != home:
        raise ImportError(
            f"agfas needs its own package '{package}', but Python finds another one first, in {place}. Start it from"
            f" another folder, or put {home} first on PYTHONPATH."
        )
