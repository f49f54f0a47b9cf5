"""Which licences let a part be shared."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

from oanet.published import publication, published_names
from pipelines.data import importers
from pipelines.data.detection import DETECTORS
from pipelines.licences import OPENRAIL, PUBLISHER, known_licence, of_all


@pytest.mark.parametrize(
    ("words", "share", "hub"),
    [
        ("Apache-2.0", "freely", "apache-2.0"),
        ("Apache-2.0, within the terms of the faces it was trained on", "freely", "apache-2.0"),
        ("MIT", "freely", "mit"),
        ("MIT (facexlib)", "freely", "mit"),
        ("BSD-3-Clause", "freely", "bsd-3-clause"),
        ("CreativeML OpenRAIL-M", "with its terms", "creativeml-openrail-m"),
        ("DINOv3 License, of Meta", "no", "other"),
        ("MIT if they are madebyollin's, else their publisher's", "no", "other"),
        ("MIT for the code, non-commercial research for the weights", "no", "other"),
        ("Apache-2.0; For research.", "no", "other"),
        ("Apache-2.0; MIT", "freely", "apache-2.0"),
        ("CC BY-NC 4.0", "no", "other"),
        ("MIT (do not redistribute)", "no", "other"),
        (PUBLISHER, "no", "other"),
        ("", "no", "other"),
    ],
)
def test_what_a_licence_allows(words, share, hub):
    found = known_licence(words)
    assert (found.share, found.hub) == (share, hub)


def test_a_whole_is_under_the_strictest_of_its_licences():
    assert of_all(["MIT", "Apache-2.0", "BSD-3-Clause"]).hub == "apache-2.0"
    assert of_all(["MIT", "CreativeML OpenRAIL-M"]) == OPENRAIL
    assert of_all(["CreativeML OpenRAIL-M", "For research."]).share == "no"


def test_what_the_program_names_is_known_or_withheld():
    """No dataset's faces may be shared without a word, nor insightface's weights; the other face detectors may."""
    modules = [import_module(f"{importers.__name__}.{each.name}") for each in pkgutil.iter_modules(importers.__path__)]
    stated = [module.LICENCE for module in modules if hasattr(module, "LICENCE")]
    assert len(stated) > 15
    assert {known_licence(words).share for words in stated} == {"no"}
    places = {name: place.partition(":") for name, place in DETECTORS.items()}
    kinds = {name: getattr(import_module(module), kind) for name, (module, _, kind) in places.items()}
    found = {name: known_licence(kind.licence).share for name, kind in kinds.items()}
    assert found == {"yunet": "freely", "insightface": "no", "retinaface": "freely", "mtcnn": "freely"}
    published = {name: known_licence(publication(name).licence).share for name in published_names()}
    assert published == {"minifasnet": "freely", "liveness_vit": "freely", "insightface_liveness": "no"}
