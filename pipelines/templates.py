"""Jinja templates of pages and cards, which are stored beside the modules that fill them.

A card is a README.md in the form of the Hugging Face hub: metadata in a YAML header, then Markdown.
"""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.markdown import join_names, table

if TYPE_CHECKING:
    from huggingface_hub import CardData
    from jinja2 import Template
    from PIL import Image

_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_SIZE_NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "n>10M")


@lru_cache
def load_template(path: Path) -> Template:
    """A template in which an undefined name is an error; values are escaped in `.html` files only."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=path.suffix == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["join_names"] = join_names
    environment.globals["table"] = table
    return environment.from_string(path.read_text(encoding="utf-8"))


def data_uri(picture: Image.Image, form: str = "PNG", **options: Any) -> str:
    """A picture as the `src` of an image in a page that loads nothing from elsewhere.

    Args:
        picture: RGB.
        form: `PNG` or `JPEG`.
        options: of Pillow's encoder.
    """
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def render_card(template: Path, data: CardData, **values: Any) -> str:
    """A card's text.

    Args:
        template: a Markdown template for the part below the header. It can call `table(header, rows)` and the filter
            `join_names`.
        data: the header's metadata, a `ModelCardData` or `DatasetCardData` of huggingface_hub.
        values: what the template names.
    """
    from huggingface_hub import RepoCard

    return str(RepoCard(f"---\n{data.to_yaml()}\n---\n\n{load_template(template).render(**values)}"))


def size_category(count: int) -> str:
    """The hub's name for a dataset of `count` rows, for example `1K<n<10K`."""
    return _SIZE_NAMES[sum(count >= size for size in _SIZES)]
