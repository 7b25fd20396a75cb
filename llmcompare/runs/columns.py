"""Columns of the list of runs: which there are, and which of them the address asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from llmcompare.common.saying import Text


@dataclass(frozen=True)
class Column:
    """``key``: name in the address and in ``_row.html``; ``sort``: key of ``filters.SORTS``, "" where it cannot be sorted by;
    ``first``: direction of the first click."""

    key: str
    title: Text
    sort: str = ""
    numeric: bool = False
    first: str = "asc"
    default: bool = True


#: In the order in which they are shown; the run itself always is, after its state.
COLUMNS = (
    Column("state", _("State"), "state"),
    Column("hardware", _("Hardware"), "hardware"),
    Column("host", _("Host"), default=False),
    Column("kind", _("Kind"), "kind", default=False),
    Column("batch", _("Batch"), "batch", numeric=True),
    Column("tokens", _("In / out"), "input", numeric=True),
    Column("dtype", _("Type"), "dtype"),
    Column("ttft", "TTFT", "ttft", numeric=True),
    Column("tpot", "TPOT", "tpot", numeric=True),
    Column("e2e", _("Total"), "e2e", numeric=True),
    Column("throughput", _("Token/s"), "throughput", numeric=True, first="desc"),
    Column("memory", _("Memory"), "memory", numeric=True),
    Column("bound", _("Bound"), "bound"),
    Column("tags", _("Tags"), default=False),
    Column("owner", pgettext_lazy("owner of a run", "By"), default=False),
    Column("visibility", _("Seen by"), default=False),
    Column("engine", _("Engine"), default=False),
    Column("torch", "torch", default=False),
    Column("duration", _("Took"), numeric=True, default=False),
    Column("created", pgettext_lazy("when", "Created"), "created", first="desc"),
)
DEFAULT = tuple(column for column in COLUMNS if column.default)
#: Of the short list on the dashboard.
COMPACT = tuple(c for c in COLUMNS if c.key in ("state", "ttft", "tpot", "e2e", "throughput", "memory", "created"))


def chosen_columns(params: Mapping[str, str]) -> tuple[Column, ...]:
    """The columns of ``columns=state,ttft,…``; unknown names are left out, and nothing that can be shown means the default."""
    asked = params.get("columns", "").split(",")
    return tuple(column for column in COLUMNS if column.key in asked) or DEFAULT
