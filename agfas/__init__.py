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
from typing import TYPE_CHECKING, Any

from pipelines import __version__

if TYPE_CHECKING:
    from dfg.pipeline import DeFakePipeline
    from oanet.model import OANet
    from pipelines.data.records import load_faces as load_dataset
    from pipelines.verdict import FaceAntiSpoofing
    from pipelines.verdict.rates import evaluate

__all__ = ["DeFakePipeline", "FaceAntiSpoofing", "OANet", "__version__", "evaluate", "load_dataset"]

_PLACES = {
    "DeFakePipeline": "dfg.pipeline:DeFakePipeline",
    "FaceAntiSpoofing": "pipelines.verdict:FaceAntiSpoofing",
    "OANet": "oanet.model:OANet",
    "evaluate": "pipelines.verdict.rates:evaluate",
    "load_dataset": "pipelines.data.records:load_faces",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'agfas' has no attribute {name!r}; it offers {', '.join(__all__)}")
    module, _, inner = _PLACES[name].partition(":")
    found = globals()[name] = getattr(import_module(module), inner)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
