"""What the address of a run page says about how to look at it. Every control of the page is one of these parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from django.utils.translation import gettext_lazy as _

from llmcompare.runs.graphview import PAINTS
from llmcompare.runs.layertable import SORTS

STAGES = ("encode", "encode_audio", "prefill", "decode")
ROOFS = {"all": _("all"), "dtype": _("this data type"), "datasheet": _("datasheet"), "measured": _("measured")}
#: What one point of the roofline stands for.
PER = {"operator": _("operators"), "module": _("modules"), "stage": _("stages")}
#: How areas are drawn, and what they are sized by. "" is measured own time where there is one, else estimated time.
VIEWS = {"treemap": _("treemap"), "icicle": _("icicle")}
AREAS = ("time", "measured", "memory", "flops", "bytes")
#: Stands for "nothing is open" in an address, where an absent ``open`` means the default.
_NONE_OPEN = "-"
#: Stands for the whole model, whose path is empty.
_ROOT = "."


@dataclass(frozen=True)
class Options:
    """``stage`` of graph, areas and tables, ``by`` what the graph is coloured and sized by, ``open_ids`` opened modules (``None``:
    default), ``beside`` the other stages' graphs too, ``sort`` and ``find`` of the module table, ``points`` stages in the roofline
    ("" is all), ``per`` what a point is, ``roofs`` which roofs, ``formats`` of which data types (empty: all), ``view`` and ``area``
    how areas are drawn and what they show, ``at`` the selected module or operator group, ``parts`` which parts of the page are open
    (``None``: as the screen's width suggests)."""

    stage: str
    by: str = "time"
    open_ids: tuple[str, ...] | None = None
    beside: str = ""
    sort: str = ""
    find: str = ""
    points: str = ""
    per: str = "operator"
    roofs: str = "all"
    formats: tuple[str, ...] = ()
    view: str = "treemap"
    area: str = ""
    at: str | None = None
    parts: tuple[str, ...] | None = None
    default_stage: str = ""

    def link(self, **changes: Any) -> str:
        """A query string for this view with ``changes``; what is at its default is left out."""
        return "?" + urlencode(replace(self, **changes).pairs(), safe=",/*")

    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of the query string, in the order of the fields."""
        pairs: list[tuple[str, str]] = []
        for part in fields(self):
            value = getattr(self, part.name)
            default = self.default_stage if part.name == "stage" else part.default
            if value == default or part.name == "default_stage":
                continue
            name = "open" if part.name == "open_ids" else part.name
            if isinstance(value, tuple):
                # A word for "none": without the parameter the default would be open.
                value = ",".join(item or _ROOT for item in value) or _NONE_OPEN
            pairs.append((name, value or _ROOT))
        return pairs

    @cached_property
    def _unselected(self) -> str:
        return self.link(at=None)

    def selecting(self, at: str) -> str:
        """``link(at=at)``, quick enough to be made for every part of a large model."""
        return f"{self._unselected}{'&' if len(self._unselected) > 1 else ''}at={quote(at or _ROOT, safe=',/*')}"

    @property
    def state(self) -> str:
        """The address of this very view: what a link inside changes is the difference to it (``static/run.js``)."""
        return self.link()


def read_options(params: Mapping[str, str], document: Mapping[str, Any]) -> Options:
    """Parameters that make no sense for this document fall back to their default: an old link still opens."""
    stages = stages_of(document)
    # Images and audio are encoded first, but what people come for is the language model.
    first = "prefill" if "prefill" in stages else stages[0] if stages else ""
    stage = params.get("stage", "")
    opened, at, parts = params.get("open"), params.get("at"), params.get("parts")
    points = params.get("points", "")

    def one_of(name: str, known: Any, default: str) -> str:
        value = params.get(name, "")
        return value if value in known else default

    return Options(
        stage=stage if stage in stages else first,
        by=one_of("by", PAINTS, "time"),
        open_ids=None if opened is None else _listed(opened),
        beside=one_of("beside", ("1",), "") if len(stages) > 1 else "",
        sort=one_of("sort", SORTS, ""),
        find=params.get("find", "").strip()[:100],
        points=points if points in stages else "",
        per=one_of("per", PER, "operator"),
        roofs=one_of("roofs", ROOFS, "all"),
        formats=_formats(params.get("formats", ""), document),
        view=one_of("view", VIEWS, "treemap"),
        area=one_of("area", AREAS, ""),
        at=None if not at else "" if at == _ROOT else at[:400],
        parts=None if parts is None else tuple(p for p in _listed(parts) if p.replace("-", "").isalnum())[:40],
        default_stage=first,
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple("" if i == _ROOT else i for i in text.split(",") if i and i != _NONE_OPEN)


def _formats(text: str, document: Mapping[str, Any]) -> tuple[str, ...]:
    """The asked data types that the document has a roof for, in the order of the document."""
    asked = set(text.split(","))
    roofs = (document.get("roofline") or {}).get("roofs") or []
    return tuple(dict.fromkeys(str(r.get("dtype")) for r in roofs if str(r.get("dtype")) in asked))


def stages_of(document: Mapping[str, Any]) -> list[str]:
    """Stages of the document, in the order of execution."""
    present = document.get("stages") or {}
    return [s for s in STAGES if s in present] + [s for s in present if s not in STAGES]
