"""Words for labels and splits in lists and datasets that strangers made."""

from __future__ import annotations

from pipelines.data.records import ATTACK, BONAFIDE

LABELS = {
    **dict.fromkeys(("bonafide", "live", "real", "genuine", "1"), BONAFIDE),
    **dict.fromkeys(("attack", "spoof", "fake", "0"), ATTACK),
}
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def plain(word: object) -> str:
    """A word in lower case and without blanks around it, as the tables have it; `bona fide` is `bonafide`."""
    return str(word).strip().lower().replace("bona fide", "bonafide").replace("bona-fide", "bonafide")
