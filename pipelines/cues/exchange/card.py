"""The dataset card of an exported cue store."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.cues.exchange.format import Listing
from pipelines.licences import UNKNOWN, known_licence
from pipelines.templates import render_card, size_category

CARD_NAME, CARD_TAG = "README.md", "agfas-cues"
TEMPLATE = Path(__file__).with_name("card.md.j2")


def card_of(listing: Listing) -> str:
    """README.md of an export: what the cues are, what made them, and how to read them."""
    from huggingface_hub import DatasetCardData

    source = {"name": "unknown", **listing.identity["source"]}
    height, width = listing.identity["image_size"]
    licence = known_licence(listing.faces.licence) if listing.faces else UNKNOWN
    return render_card(
        TEMPLATE,
        DatasetCardData(
            pretty_name=f"Cues {listing.store}",
            license=licence.hub,
            license_name=None if licence.hub != "other" else "terms-of-the-faces",
            license_link=None if licence.hub != "other" else "README.md",
            task_categories=["image-classification"],
            tags=["face-anti-spoofing", "presentation-attack-detection", CARD_TAG],
            size_categories=[size_category(listing.count)],
            configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
        ),
        listing=listing,
        faces=listing.faces,
        source=source,
        timestep=f" at t = {source['timestep']}" if "timestep" in source else "",
        height=height,
        width=width,
        identity=json.dumps(listing.identity, indent=2, sort_keys=True),
    )
