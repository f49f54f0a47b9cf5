"""Links of the repository made those of the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from scripts.site.tables import PLACE, folder_link

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
}
"""Files of the repository's root by their place in the site."""

_LINK = re.compile(r"\]\((?!https?://|#)([^)\s#]+)(#[^)\s]*)?\)")


def site_links(markdown: str, place: str) -> str:
    """The page with every link to a file of the repository changed to its place in the site.

    Args:
        markdown: as it stands in the repository.
        place: of the page in the site, such as `tutorials/table.md`.
    """
    home = {inner: outer for outer, inner in PAGES.items()}.get(place, f"docs/{place}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(home), link[1]))
        if target not in PAGES and not target.startswith("docs/"):
            return link[0]  # of no page: the strict build names it
        inside, anchor = PAGES.get(target) or target.removeprefix("docs/"), link[2] or ""
        if (ROOT / target).is_dir():
            inside, anchor = PLACE, folder_link(ROOT / target)
        return f"]({posixpath.relpath(inside, posixpath.dirname(place) or '.')}{anchor})"

    return _LINK.sub(moved, markdown)
