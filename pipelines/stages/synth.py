"""`agfas synth`: writes the built-in benchmark as a face dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.data.records import load_faces
from pipelines.data.sheet import contact_sheet
from pipelines.errors import AgfasError
from pipelines.processes import is_main, say
from pipelines.settings import explain
from pipelines.synthetic.benchmark import build
from pipelines.synthetic.settings import SyntheticSettings


def run(out: Path, options: dict[str, Any]) -> None:
    """Write the dataset at `out`, with a contact sheet inside; options that are None keep their default.

    All processes draw; the main one makes the sheet.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = SyntheticSettings(**given)
    except ValidationError as error:
        raise AgfasError(explain(error, SyntheticSettings, "the benchmark's options")) from None
    build(settings, out)
    if not is_main():
        return
    faces = load_faces(out)
    contact_sheet(faces, out / "contact_sheet.png")
    say(f"{len(faces)} faces in {out}; look at {out / 'contact_sheet.png'}")
