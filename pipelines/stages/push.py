"""`agfas push`: a saved or exported model, a generator or a parcel of cues, sent to the hub."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from pipelines.errors import AgfasError
from pipelines.hub import Push, endpoint, target
from pipelines.licences import known_licence
from pipelines.markdown import aligned
from pipelines.verdict.shipment import Shipment, pack, send, size_of


def run(
    folder: Path,
    name: str,
    revision: str | None,
    how: Push,
    licence_checked: Collection[str],
    confirm: Callable[[str], bool] | None,
    say: Callable[[str], object],
) -> None:
    """Push a folder, after what would be pushed was said and confirmed.

    Args:
        folder: see `pipelines.verdict.shipment`.
        name: `USER/NAME`.
        revision: a branch; None: main.
        how: see `pipelines.hub.Push`.
        licence_checked: names of parts whose licence was read.
        confirm: asked before the first request; None: say what would be pushed, and make no request.
        say: receives what is printed.

    Raises:
        AgfasError: it is not confirmed, or see `pipelines.verdict.shipment.send`.
    """
    shipment = pack(folder)
    say(preview(shipment, folder, name, revision, how))
    shipment.check(licence_checked)
    if confirm is None:
        say("Nothing was pushed: this was a dry run.")
        return
    if not confirm(f"Push to {name}?"):
        raise AgfasError("Nothing was pushed.")
    say(f"pushed: {send(shipment, name, revision, how, licence_checked)}")


def preview(shipment: Shipment, folder: Path, name: str, revision: str | None, how: Push) -> str:
    """What would be pushed: files with their sizes, licences, and who sees it."""
    place = target(name, shipment.kind, revision)
    seen = "private if it is new, and it may not be public" if how.private else "public if it is new"
    files = [(f"  {each}", _size(size_of(content))) for each, content in sorted(shipment.files.items())]
    words = {"freely": "", "with its terms": "its terms are in the card", "no": "may not be shared, as far as is known"}
    parts = [
        (f"  {part.what}", part.source, part.licence, words[known_licence(part.licence).share])
        for part in shipment.parts
    ]
    return "\n".join(
        [
            f"{folder} ({shipment.what})",
            f"to {place} of {endpoint()}, a {place.kind}: {seen}{'; as a pull request' if how.create_pr else ''}",
            aligned(files),
            f"  {len(files)} files, {_size(shipment.size)}; what an earlier push left there beyond them is removed",
            "licences:",
            aligned(parts) if parts else "  none is recorded",
        ]
    )


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.1f} kB"
