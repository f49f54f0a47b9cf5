"""mkdocs' hooks: the repository's front pages become pages of the site, and marked places of pages are filled.

README.md, CONTRIBUTING.md and CHANGELOG.md stay where a reader of the repository looks for them. `<!-- commands -->`
and its like stand where the code writes the rest of a page.
"""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

from scripts.site.commands import commands_page
from scripts.site.configuration import blocks_page, options_page
from scripts.site.gallery import gallery_page, gallery_pictures
from scripts.site.links import PAGES, ROOT, site_links
from scripts.site.tables import PLACE, tables_page

MARKS = {
    "<!-- commands -->": commands_page,
    "<!-- configuration -->": blocks_page,
    "<!-- options of detectors -->": lambda: options_page("detector"),
    "<!-- options of objectives -->": lambda: options_page("objective"),
    "<!-- gallery -->": gallery_page,
}


def on_config(config: Any) -> Any:
    """Headings have the anchors that they have on GitHub, so that links hold in both places."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, the page of all tables, and the gallery's pictures."""
    made = {place: (ROOT / name).read_text(encoding="utf-8") for name, place in PAGES.items()}
    for place, content in {**made, PLACE: tables_page(), **gallery_pictures()}.items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the marked places, and make links of the repository those of the site."""
    for mark, write in MARKS.items():
        if mark in markdown:
            markdown = markdown.replace(mark, write())
    return site_links(markdown, page.file.src_uri)
