"""What the address of a run page says about how to look at it. Every control of the page is one of these parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from llmcompare.runs.graphview import MEASURES
from llmcompare.runs.layertable import SORTS

STAGES = ("encode", "encode_audio", "prefill", "decode")
ROOFS = {"all": "all", "dtype": "this data type", "datasheet": "datasheet", "measured": "measured"}
#: Stands for "nothing is open" in an address, where an absent ``open`` means the default.
_NONE_OPEN = "-"
#: Stands for the whole model, whose path is empty.
_ROOT = "."


@dataclass(frozen=True)
class Options:
    """``stage`` of graph and tables, ``by`` what the graph is coloured and sized by, ``open_ids`` opened modules (``None``: default),
    ``sort`` and ``find`` of the module table, ``points`` stages in the roofline ("" is all), ``roofs`` which roofs."""

    stage: str
    by: str = "time"
    open_ids: tuple[str, ...] | None = None
    sort: str = ""
    find: str = ""
    points: str = ""
    roofs: str = "all"
    default_stage: str = ""

    def link(self, **changes: Any) -> str:
        """A query string for this view with ``changes``; what is at its default is left out."""
        new = replace(self, **changes)
        pairs: list[tuple[str, str]] = []
        if new.stage != new.default_stage:
            pairs.append(("stage", new.stage))
        if new.by != "time":
            pairs.append(("by", new.by))
        if new.open_ids is not None:
            pairs.append(("open", ",".join(i or _ROOT for i in new.open_ids) or _NONE_OPEN))
        pairs += [(n, getattr(new, n)) for n in ("sort", "find", "points") if getattr(new, n)]
        if new.roofs != "all":
            pairs.append(("roofs", new.roofs))
        return "?" + urlencode(pairs, safe=",/")


def read_options(params: Mapping[str, str], document: Mapping[str, Any]) -> Options:
    """Parameters that make no sense for this document fall back to their default: an old link still opens."""
    stages = stages_of(document)
    # Images and audio are encoded first, but what people come for is the language model.
    first = "prefill" if "prefill" in stages else stages[0] if stages else ""
    stage = params.get("stage", "")
    by = params.get("by", "")
    opened = params.get("open")
    points = params.get("points", "")
    sort = params.get("sort", "")
    roofs = params.get("roofs", "")
    return Options(
        stage=stage if stage in stages else first,
        by=by if by in MEASURES else "time",
        open_ids=None if opened is None else _opened(opened),
        sort=sort if sort in SORTS else "",
        find=params.get("find", "").strip()[:100],
        points=points if points in stages else "",
        roofs=roofs if roofs in ROOFS else "all",
        default_stage=first,
    )


def _opened(text: str) -> tuple[str, ...]:
    return tuple("" if i == _ROOT else i for i in text.split(",") if i and i != _NONE_OPEN)


def stages_of(document: Mapping[str, Any]) -> list[str]:
    """Stages of the document, in the order of execution."""
    present = document.get("stages") or {}
    return [s for s in STAGES if s in present] + [s for s in present if s not in STAGES]
