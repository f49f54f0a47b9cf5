"""`agfas simulate`: live faces and attacks simulated from them, as a face dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.data.records import load_faces, read_card
from pipelines.data.sheet import contact_sheet
from pipelines.errors import AgfasError
from pipelines.processes import is_main, say
from pipelines.settings import explain
from pipelines.synthetic.settings import ATTACKS, SimulationSettings
from pipelines.synthetic.simulation import simulate


def run(folder: Path, out: Path, options: dict[str, Any]) -> None:
    """Write the dataset at `out`, with a contact sheet inside; options that are None keep their default.

    All processes draw; the main one makes the sheet and says what was made.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = SimulationSettings(**given)
    except ValidationError as error:
        raise AgfasError(explain(error, SimulationSettings, "the options of simulate")) from None
    simulate(folder, out, settings)
    if not is_main():
        return
    faces, card = load_faces(out), read_card(out)
    contact_sheet(faces, out / "contact_sheet.png")
    made = card["attacks"]
    cameras = f"{settings.cameras} cameras" if settings.cameras > 1 else "one camera"
    say(f"{len(faces) // 2} live faces and as many attacks in {out}, by {cameras}:")
    say("  " + ", ".join(f"{number} {kind}" for kind, number in made.items()))
    if lacking := [kind for kind in settings.attacks or ATTACKS if kind not in made]:
        say(f"  no {', '.join(lacking)}: that needs landmarks (and a blend a second person of the domain and split)")
    if card["refused"]:
        say(f"  {card['refused']} live faces were refused: {out / 'refused.csv'}")
    say(f"Look at {out / 'contact_sheet.png'}.")
