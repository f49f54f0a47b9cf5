"""Cue sources outside this program: classes by `module:Class` or from other packages. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pipelines.cues.settings import SOURCES, CueSettings
from pipelines.errors import AgfasError

if TYPE_CHECKING:
    import torch


@runtime_checkable
class CueSource(Protocol):
    """Anything that makes the "real" version of a face.

    A configuration can name one as `cue.source: package.module:Class`, or by an entry point of the group
    `agfas.cue_sources`; `cue.options` are then the arguments of its constructor.
    """

    def fingerprint(self) -> dict[str, Any]:
        """Everything but the face that decides the result, in JSON types."""

    def __call__(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """Restore faces.

        Args:
            image: (B, 3, H, W) float32 in [-1, 1], RGB.
            keys: B record keys; a source that draws noise uses streams keyed by them.

        Returns:
            (B, 3, H, W) in [-1, 1].
        """


def open_source(cue: CueSettings) -> CueSource:
    """The custom source of a cue (`source: module:Class`).

    Raises:
        AgfasError: it cannot be imported or built, or is no `CueSource`.
    """
    try:
        found = SOURCES.load(cue.source)
        # Before it is called: settings of a saved model may come from anyone, and must not call what they please.
        if not (isinstance(found, type) and issubclass(found, CueSource)):
            raise ValueError("it must be a class with the methods fingerprint() and __call__(image, keys)")
        return NamedSource(cue.source, found(**cue.options))
    except (ValueError, TypeError, OSError) as error:
        raise AgfasError(f"cue.source = {cue.source} cannot be built: {error}.") from error


class NamedSource:
    """A custom source under the name that a configuration gives it."""

    def __init__(self, name: str, source: CueSource) -> None:
        self.name, self.source = name, source

    def fingerprint(self) -> dict[str, Any]:
        """The name, and everything else that decides the restoration."""
        return {"name": self.name, **self.source.fingerprint()}

    def __call__(self, image: torch.Tensor, keys: Sequence[str]) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> the restored faces, in the same shape and range."""
        return self.source(image, keys)
