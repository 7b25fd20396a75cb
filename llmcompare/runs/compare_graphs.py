"""Layer graphs of two compared runs side by side: the baseline and another, on one scale of colour and width.

Graphs are only drawn when the address asks for them (``graphs=1``): they need the whole documents of both runs. What is open in each has a
parameter of its own, ``open0`` and ``open1``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text, said
from llmcompare.runs import graphview
from llmcompare.runs.compare import Column
from llmcompare.runs.counterparts import aligned_by_module, mark_nodes
from llmcompare.runs.models import Run, RunDocument
from llmcompare.runs.network import network
from llmcompare.runs.tiles import BOUND_WORDS
from llmcompare.runs.viewoptions import read_options, stages_of
from profiling.quantities import show

#: What both runs have: measured times only one of them may.
COLOURS = {name: entry[1] for name, entry in graphview.MEASURES.items() if name != "measured"} | {"bound": _("Bound")}


def stored(run: Run) -> Mapping[str, Any]:
    """The whole document of a run that has one."""
    return RunDocument.objects.get(run=run).data


def graphs(
    params: QueryDict,
    columns: Sequence[Column],
    baseline: int,
    *,
    document_of: Callable[[Run], Mapping[str, Any]] = stored,
) -> dict[str, Any] | None:
    """The section: what can be chosen, and with ``graphs=1`` the two graphs. None where fewer than two runs have a document.

    ``document_of``: the whole document of a run, as whoever asks may see it."""
    able = [at for at, column in enumerate(columns) if column.document.get("stages")]
    if baseline not in able or len(able) < 2:
        return None
    ids = [column.run.public_id for column in columns]
    asked = params.get("pair", "")
    other = ids.index(asked) if asked in ids and ids.index(asked) in able else next(at for at in able if at != baseline)
    found: dict[str, Any] = {
        "shown": params.get("graphs") == "1",
        "pair_links": [
            {
                "title": f"{at + 1}. {columns[at].label}",
                "href": _link(params, graphs="1", pair=ids[at], open1=None),
                "current": at == other,
            }
            for at in able
            if at != baseline
        ],
        "show": _link(params, graphs="1"),
        "hide": _link(params, graphs=None, pair=None, open0=None, open1=None),
    }
    if not found["shown"]:
        return found
    by_module = aligned_by_module(columns)
    sides = []
    for number, at in enumerate(dict.fromkeys((baseline, other))):
        side = _side(params, document_of(columns[at].run), number, by_module)
        about = {"label": f"{at + 1}. {columns[at].label}", "run": columns[at].run.public_id, "known": side is not None}
        sides.append((side or {}) | about)
    drawn = [side for side in sides if side["known"]]
    for side in drawn:
        side["json"] |= {"scale": {name: max(s["json"]["scale"][name] for s in drawn) for name in ("bytes", "share")}}
    stages = list(
        dict.fromkeys(stage for column in (columns[baseline], columns[other]) for stage in stages_of(column.document))
    )
    by = drawn[0]["by"] if drawn else "time"
    return found | {
        "sides": sides,
        "stage_links": _links(
            params, "stage", {stage: said(stage) for stage in stages}, drawn[0]["stage"] if drawn else ""
        ),
        "by_links": _links(params, "colour", COLOURS, by),
        "by_bound": by == "bound",
        "bounds": list(BOUND_WORDS),
        "widest": show(max((side["widest"] for side in drawn), default=0), "B"),
    }


def graphs_json(found: Mapping[str, Any] | None) -> list[dict[str, Any]] | None:
    """The figures of both graphs as they are drawn; None where none are."""
    if found is None or not found["shown"]:
        return None
    names = ("path", "parent", "kind", "bound", "value", "share")
    return [
        {
            "run": side["run"],
            "stage": side["stage"],
            "by": side["by"],
            "nodes": [{name: node[name] for name in names} for node in side["json"]["nodes"]],
            "edges": [
                {name: edge[name] for name in ("source", "target", "kind", "bytes")} for edge in side["json"]["edges"]
            ],
        }
        for side in found["sides"]
        if side["known"]
    ]


def _side(params: QueryDict, document: Mapping[str, Any], number: int, by_module: bool) -> dict[str, Any] | None:
    """The graph of one run; None where its document has none of the stage."""
    asked = {"stage": params.get("stage", ""), "by": params.get("colour", "")}
    opened = params.get(f"open{number}")
    if opened is not None:
        asked["open"] = opened
    if not asked["stage"]:
        asked["stage"] = "decode"
    options = read_options(asked, document)
    view = network(document, options)
    if view is None or not view["graphs"]:
        return None
    graph = view["graphs"][0]
    nodes = mark_nodes(graph["json"]["nodes"], document["graph"][options.stage], by_module)
    drawn = graph["json"] | {"nodes": [_moved(node, params, number) for node in nodes]}
    return {
        "id": f"compare-graph-{number}",
        "stage": options.stage,
        "by": options.by,
        "nodes": graph["nodes"],
        "widest": graph["widest"],
        "height": graph["height"],
        "json": drawn,
    }


def _moved(node: Mapping[str, Any], params: QueryDict, number: int) -> dict[str, Any]:
    """The node with its link to open or close it pointing at this page."""
    if not node["toggle"]:
        return dict(node)
    opened = parse_qs(str(node["toggle"]).removeprefix("?"), keep_blank_values=True).get("open", [None])[0]
    return {**node, "toggle": _link(params, **{f"open{number}": opened})}


def _link(params: QueryDict, **changes: str | None) -> str:
    query = params.copy()
    for name, value in changes.items():
        if value is None:
            query.pop(name, None)
        else:
            query[name] = value
    return f"?{query.urlencode(safe=',*')}"


def _links(params: QueryDict, name: str, titles: Mapping[str, Text], current: str) -> list[dict[str, Any]]:
    return [
        {
            "title": title,
            "href": _link(params, **{name: value, "open0": None, "open1": None}),
            "current": value == current,
        }
        for value, title in titles.items()
    ]
