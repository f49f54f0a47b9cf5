#!/usr/bin/env python
"""Write docs/parity.md from pipelines/reproduce/deviations.yaml:

python -m scripts.parity
"""

from __future__ import annotations

from pathlib import Path

from pipelines.reproduce.deviations import as_page

PAGE = Path(__file__).parents[1] / "docs" / "parity.md"

if __name__ == "__main__":
    PAGE.write_text(as_page(), encoding="utf-8")
