"""What a prepared dataset says of itself: `face_dataset.json` for programs, README.md for people and the hub."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml

from pipelines.data.prepare.counts import as_markdown

_PACKAGES = ("agfas", "numpy", "pillow", "opencv-python", "av", "scipy", "datasets", "pyarrow")


def versions() -> dict[str, str]:
    """Of Python and of the packages that read, measure and write pictures."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def readme(card: dict[str, Any], rows: list[dict[str, Any]], expected: list[str], leaks: list[str]) -> str:
    """The dataset card in the Hugging Face form: a YAML header, then Markdown.

    Args:
        card: as `face_dataset.json` holds it.
        rows: of `count_faces`.
        expected: sentences on what the dataset should have.
        leaks: sentences on the splits.
    """
    parts = [
        f"---\n{yaml.safe_dump(_header(card), sort_keys=False, allow_unicode=True)}---",
        f"# {card['title']}: aligned faces",
        _source(card),
        "## Counts",
        "\n".join(as_markdown(rows)),
        *(["Against a whole copy:\n\n" + "\n".join(f"- {line}" for line in expected)] if expected else []),
        _lost(card),
        "## Splits",
        "\n".join(leaks),
        "## How it was made",
        "\n".join(as_markdown(_settings(card))),
        "Versions: " + ", ".join(f"{name} {number}" for name, number in card["versions"].items()) + ".",
        "## Licence and use",
        f"{card['licence'] or 'Not stated by the importer.'}\n\nThese are photographs of people. Use them as their"
        " licence and their consent allow, and nobody's face for anything else.",
    ]
    return "\n\n".join(parts) + "\n"


def _header(card: dict[str, Any]) -> dict[str, Any]:
    return {
        "pretty_name": card["title"],
        "license": "other",
        "license_name": "see-below",
        "task_categories": ["image-classification"],
        "tags": ["face-anti-spoofing", "presentation-attack-detection", "face"],
        "size_categories": [_size_category(card["faces"])],
        "configs": [{"config_name": "default", "data_files": "data-*.arrow"}],
    }


def _size_category(faces: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if faces < limit:
            return name
    return "1M<n<10M"


def _source(card: dict[str, Any]) -> str:
    cited = f" {card['citation']}" if card["citation"] else ""
    return (
        f"Made by `agfas prepare` from `{card['source']}` with the importer `{card['recipe']['importer']}`"
        f" ({card['title']}).{cited}\n\nHow far the importer was checked: {card['verified']}\n\n"
        f"Recipe `{card['recipe_hash']}`, content `{card['fingerprint']}`."
    )


def _lost(card: dict[str, Any]) -> str:
    asked, refused = card["asked"], card["refused_faces"]
    lines = [f"Of {asked} faces that were asked for, {refused} were refused; refused.csv has a reason for each."]
    if card["filtered_faces"]:
        lines.append(f"{card['filtered_faces']} lie beyond the limits of pose or quality and are listed there too.")
    if card["left_out"]:
        lines.append(f"{card['left_out']} of the larger class were left out for the ratio; left_out.csv lists them.")
    if card["passed_over"]:
        kinds = "; ".join(f"{count} {why}" for why, count in card["passed_over"].items())
        lines.append(f"Passed over, as passed_over.csv lists: {kinds}.")
    return " ".join(lines)


def _settings(card: dict[str, Any]) -> list[dict[str, Any]]:
    models = {name: value for name, value in card["models"].items() if value}
    shown = {**card["recipe"], **models}
    return [{"setting": name, "value": _shown(value)} for name, value in shown.items()]


def _shown(value: Any) -> str:
    return "off" if value is None or value is False or value == {} else f"`{value}`"
