"""How many videos a dataset should have, set against what an importer found."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.data.importers.source import SourceFace


@dataclass(frozen=True)
class Expected:
    """A number of videos that a whole copy of a dataset has.

    Attributes:
        label: 0 attack, 1 bona fide.
        videos: how many; in a dataset of single pictures, how many pictures.
        splits: the official splits that are counted together; all where empty.
        attack_type: count this type alone; every type where None.
        what: what the number is of, in words for the user, where the rest does not say it.
    """

    label: int
    videos: int
    splits: tuple[str, ...] = ()
    attack_type: str | None = None
    what: str = ""

    def counts(self, face: SourceFace) -> bool:
        """Whether a face is of those that this number is of."""
        return (
            face.label == self.label
            and (not self.splits or face.split in self.splits)
            and (self.attack_type is None or face.attack_type == self.attack_type)
        )


@dataclass(frozen=True)
class Count:
    """An expected number and what there is.

    Attributes:
        expected: the number of a whole copy.
        found: distinct videos in the copy at hand.
    """

    expected: Expected
    found: int

    @property
    def missing(self) -> int:
        """How many videos of a whole copy are not there; 0 where there are more."""
        return max(0, self.expected.videos - self.found)


def check_counts(faces: list[SourceFace], expected: tuple[Expected, ...]) -> list[Count]:
    """One count for every expected number, in their order.

    Args:
        faces: what an importer found, with its own splits: before subjects are dealt out anew.
        expected: the importer's `EXPECTED`.
    """
    return [Count(number, len({(f.domain, f.video) for f in faces if number.counts(f)})) for number in expected]
