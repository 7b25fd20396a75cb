"""CSV that spreadsheets open safely and correctly, written row by row.

A text that begins like a formula would be run by a spreadsheet, so it gets a leading apostrophe; real numbers are written as
numbers, so negative figures survive. UTF-8 with a byte-order mark, because Excel takes anything else for the local code page.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.core.exceptions import BadRequest
from django.http import StreamingHttpResponse

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
DELIMITERS = {",": ",", "comma": ",", ";": ";", "semicolon": ";", "tab": "\t", "\t": "\t"}
DECIMALS = {".": ".", "point": ".", ",": ",", "comma": ","}
ROWS_PER_CHUNK = 200


@dataclass(frozen=True)
class CsvFormat:
    """How cells are separated and how numbers are written: ``;`` and a decimal comma suit a German or French Excel."""

    delimiter: str = ","
    decimal: str = "."

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> CsvFormat:
        """From ``?delimiter=`` and ``?decimal=``; raises ``BadRequest`` (a 400 page) for anything unknown."""
        delimiter = DELIMITERS.get(query.get("delimiter") or ",")
        decimal = DECIMALS.get(query.get("decimal") or ".")
        if delimiter is None:
            raise BadRequest("The delimiter must be a comma, a semicolon or tab.")
        if decimal is None:
            raise BadRequest("The decimal mark must be a point or a comma.")
        if delimiter == decimal:
            raise BadRequest("Delimiter and decimal mark cannot both be a comma; choose delimiter=;.")
        return cls(delimiter, decimal)


def safe_cell(value: Any, decimal: str = ".") -> str:
    """One cell as text. ``None`` (unknown) and numbers that are not finite are empty; containers become JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value).replace(".", decimal) if math.isfinite(value) else ""
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = value.replace("\x00", "")
    return "'" + text if text.startswith(FORMULA_STARTS) else text


class _Line:
    """A file whose ``write`` returns what it was given: the csv module then hands each line back."""

    def write(self, text: str) -> str:
        return text


def csv_chunks(header: Sequence[str], rows: Iterable[Sequence[Any]], layout: CsvFormat = CsvFormat()) -> Iterator[str]:
    """The text of a CSV file in pieces of some rows each."""
    writer = csv.writer(_Line(), delimiter=layout.delimiter, lineterminator="\r\n")
    pending = ["\ufeff" + writer.writerow([safe_cell(name) for name in header])]
    for row in rows:
        pending.append(writer.writerow([safe_cell(value, layout.decimal) for value in row]))
        if len(pending) >= ROWS_PER_CHUNK:
            yield "".join(pending)
            pending = []
    yield "".join(pending)


def csv_response(
    filename: str, header: Sequence[str], rows: Iterable[Sequence[Any]], layout: CsvFormat = CsvFormat()
) -> StreamingHttpResponse:
    """A download that starts at once, however long it is. ``filename`` must be plain ASCII made by us, never a user's text."""
    return StreamingHttpResponse(
        csv_chunks(header, rows, layout),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )
