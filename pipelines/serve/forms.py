"""From the body of a request to its files, in memory: one file as it is, or a multipart form's."""

from __future__ import annotations

import logging
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pipelines.asgi import Refused

FORM = "multipart/form-data"
RAW = ("image/", "video/", "application/octet-stream")
_LONGEST_NAME = 100
_MOST_HEADERS, _LONGEST_HEADER = 8, 4096
_WAYS = "Send one file as the body, with Content-Type image/jpeg, video/mp4 or application/octet-stream, or a form"
HOW = f"{_WAYS} (multipart/form-data) with files."

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every broken form

NamedFile = tuple[str, bytes]


def files_of(kind: str, body: bytes, most: int, most_bytes: int) -> list[NamedFile]:
    """The files of a body, each with the client's name for it, which may be empty.

    Args:
        kind: the request's Content-Type.
        body: its bytes.
        most: files.
        most_bytes: of a file.

    Raises:
        Refused: no file, a broken form, more files (400), too large ones (413), or another kind of body (415).
    """
    name = kind.partition(";")[0].strip().lower()
    if name == FORM:
        files = _files_of_form(kind, body, most)
    elif name in RAW or name.startswith(RAW[:2]):
        files = [("", body)]
    else:
        said = f"not {name[:_LONGEST_NAME]!r}" if name else "and none was given"
        raise Refused(415, f"{_WAYS}; {said}.")
    if not files or any(not content for _, content in files):
        raise Refused(400, f"There is no file in it, or an empty one. {HOW}")
    if any(len(content) > most_bytes for _, content in files):
        raise Refused(413, too_large(most_bytes))
    return files


def too_large(most_bytes: int) -> str:
    """What is said of a file with more bytes."""
    return f"A file may have {most_bytes / 2**20:.3g} MB. Make it smaller."


def _files_of_form(kind: str, body: bytes, most: int) -> list[NamedFile]:
    boundary = parse_options_header(kind)[1].get(b"boundary", b"")
    form = _Form(most)
    try:
        parser = MultipartParser(
            boundary, form.callbacks(), max_header_count=_MOST_HEADERS, max_header_size=_LONGEST_HEADER
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Refused(400, f"The form is broken. {HOW}") from None
    if not boundary or not form.ended:
        raise Refused(400, f"The form has no boundary, or breaks off. {HOW}")
    return form.files


class _Form:
    """Collects the files of a form; fields that are no files are passed over."""

    def __init__(self, most: int) -> None:
        self.most, self.files, self.ended = most, list[NamedFile](), False
        self._parts, self._headers = 0, dict[str, bytes]()
        self._field, self._value = b"", b""
        self._content: bytearray | None = None

    def callbacks(self) -> Any:
        """What the parser calls, by its names."""
        names = ("part_begin", "header_field", "header_value", "header_end", "headers_finished", "part_data")
        return {f"on_{name}": getattr(self, f"_{name}") for name in (*names, "part_end", "end")}

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > self.most:
            raise Refused(400, f"A form may have {self.most} parts here. Send several requests.")
        self._headers, self._content = {}, None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        _, found = parse_options_header(self._headers.get("content-disposition"))
        if b"filename" in found:
            self._content, self._name = bytearray(), clean(found[b"filename"])

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._content is not None:
            self._content += data[start:end]

    def _part_end(self) -> None:
        if self._content is not None:
            self.files.append((self._name, bytes(self._content)))

    def _end(self) -> None:
        self.ended = True


def clean(name: bytes) -> str:
    """A client's name for a file, as answers repeat it: without folders and control characters, and not too long."""
    last = name.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    return "".join(letter if letter.isprintable() else "?" for letter in last)[:_LONGEST_NAME].strip()
