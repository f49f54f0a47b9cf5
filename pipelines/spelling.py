"""One name in many spellings: its one form, whether two names look alike, and names that a file system takes.

A name that is typed, unpacked or listed on another system may differ in its bytes and look the same. Canonically equal
text (NFC and NFD of the Unicode Standard, annex 15) is one name everywhere. Text that differs in case, width, blanks or
leading zeros may be one name or two, which only the user knows.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

# Bytes of a file name that Linux, macOS and Windows file systems all take.
LONGEST_NAME = 255
_BLANKS = re.compile(r"[\s_]+")
_WHOLE = re.compile(r"(\d+)(?:\.0+)?")


def one_form(text: str) -> str:
    """The NFC form of a text; canonically equal texts have the same one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def alike(text: str) -> str:
    """What names have in common that a reader would take for one.

    Ignored are case, width and other compatibility forms (NFKC), invisible characters, surrounding blanks, blanks
    against underscores, and of whole numbers leading zeros and `.0`.

    Examples:
        >>> alike(" Ann_Smith "), alike("007"), alike("7.0")
        ('ann smith', '7', '7')
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    visible = "".join(char for char in folded if unicodedata.category(char) not in ("Cf", "Cc") or char.isspace())
    plain = _BLANKS.sub(" ", visible).strip()
    number = _WHOLE.fullmatch(plain)
    return "".join(str(unicodedata.decimal(digit)) for digit in number[1]).lstrip("0") or "0" if number else plain


def alike_groups(names: Iterable[str]) -> list[list[str]]:
    """The names that are alike but not equal, sorted, a list per group of two or more."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[alike(name)].add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def short_name(name: str, longest: int = LONGEST_NAME) -> str:
    """A file name of at most `longest` bytes: the name itself, or its beginning, 16 digits of its hash, and its ending.

    Two long names with the same beginning stay two.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= longest:
        return name
    head, dot, ending = name.rpartition(".")
    ending = dot + ending if head and len(ending) < 12 else ""
    mark = f"-{hashlib.sha256(encoded).hexdigest()[:16]}{ending}"
    room = longest - len(mark.encode("utf-8", "surrogateescape"))
    return encoded[: max(0, room)].decode("utf-8", "ignore") + mark
