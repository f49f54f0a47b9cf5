"""How the training's crops were made, from what their dataset says of itself."""

from __future__ import annotations

from typing import Any

from pipelines.verdict.settings import FaceSettings

DEFAULT_TEMPLATE = "agfas"
"""Taken where a dataset does not say how its crops were aligned."""


def face_settings(card: dict[str, Any], size: int) -> FaceSettings:
    """The settings that make a crop as the dataset's were made.

    Args:
        card: of the face dataset.
        size: side of the crops that the models see.
    """
    recipe = recipe_of(card)
    found = not recipe.get("aligned")
    template = recipe.get("template") if found else None
    return FaceSettings(
        size=size,
        crop_size=int(recipe.get("size", size)),
        template=template or DEFAULT_TEMPLATE,
        template_known=template is not None,
        detector=recipe.get("detector") if found else None,
        min_score=float(recipe.get("min_score", 0.0)),
        enhancement=_enhancement(recipe.get("enhance", False)),
    )


def recipe_of(card: dict[str, Any]) -> dict[str, Any]:
    """What `agfas prepare` made a dataset by; empty for datasets of other makers."""
    recipe = card.get("recipe")
    return recipe if isinstance(recipe, dict) else {}


def _enhancement(given: bool | dict[str, Any]) -> dict[str, Any] | None:
    """All arguments of the enhancement, so that other defaults in a later version change nothing."""
    if given is False:
        return None
    from pipelines.data.enhance import Enhancement

    return Enhancement(**given if isinstance(given, dict) else {}).fingerprint()
