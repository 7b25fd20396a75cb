"""The layer graph and the module table of one stage, ready for the page: texts, links, and the JSON that ``static/graph.js`` draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text, said
from llmcompare.runs import graphview, layertable
from llmcompare.runs.charts import plain
from llmcompare.runs.graphsize import graph_height
from llmcompare.runs.tiles import BOUND_WORDS
from llmcompare.runs.viewoptions import Options, stages_of
from profiling.graph_exports import EXPORTERS
from profiling.quantities import count, number, percent, show, unknown

Document = Mapping[str, Any]
#: Stage → folded modules.
Folds = Mapping[str, Mapping[str, layertable.ModuleRow]]

_DETAILS = (
    ("time_s", _("Estimated time"), "s"),
    ("measured_s", _("Measured time"), "s"),
    ("flops", _("FLOPs"), "FLOP"),
    ("bytes", _("Bytes moved"), "B"),
    ("memory_bytes", _("Memory"), "B"),
    ("weight_bytes", _("Weights"), "B"),
)


def network(document: Document, options: Options, folds: Folds | None = None) -> dict[str, Any] | None:
    """Graphs and table of ``options.stage``; ``None`` when the document has neither. With ``options.beside`` the graphs of the other
    stages too, with the same modules open."""
    graph = (document.get("graph") or {}).get(options.stage)
    folds = layertable.folds(document) if folds is None else folds
    rows = folds.get(options.stage) or {}
    if not graph and not rows:
        return None
    view = graphview.view(graph or {}, open_ids=options.open_ids)
    opened = _table_open(view, rows, options)
    every = graphview.ALL in (options.open_ids or ())
    current = options if every else replace(options, open_ids=tuple(opened))
    visible, cut = layertable.visible_rows(rows, open_ids=set(opened), sort=options.sort, find=options.find)
    measured = any(row.sums.get("inclusive_s") is not None for row in rows.values())
    graphs = _graphs(document, current, view, folds) if graph else []
    return {
        "graph": graphs[0]["json"] if graphs else None,
        "graphs": graphs,
        "widest": show(max((g["widest"] for g in graphs), default=0), "B"),
        "beside": current.link(beside="" if options.beside else "1") if _others(document, options) else "",
        "graph_nodes": len(view.nodes),
        "dropped_edges": view.dropped_edges,
        "kept_closed": view.kept_closed,
        "most_nodes": graphview.MAX_NODES,
        "rows": [_table_row(row, set(opened), current) for row in visible],
        "cut": cut,
        "total_rows": len(rows),
        "measured": measured,
        "sorts": _sort_links(current, measured),
        "by_links": _by_links(view, current),
        "measure": str(_measure_of(options)[1]),
        "by_bound": options.by == "bound",
        "bounds": list(BOUND_WORDS),
        "hidden": [(name, value) for name, value in options.pairs() if name not in ("find", "open")],
        "files": [
            (f"graph.{form.suffix}?{urlencode({'stage': options.stage})}", said(form.title))
            for form in EXPORTERS.values()
        ]
        if graph
        else [],
        "open_links": [
            (current.link(open_ids=(graphview.ALL,)), gettext("open all")),
            (current.link(open_ids=()), gettext("close all")),
            (current.link(open_ids=None, find="", sort=""), gettext("reset")),
        ],
    }


def _others(document: Document, options: Options) -> list[str]:
    """The other stages that have a graph, in the order of execution."""
    graphs = document.get("graph") or {}
    return [stage for stage in stages_of(document) if stage != options.stage and graphs.get(stage)]


def _graphs(document: Document, current: Options, view: graphview.View, folds: Folds) -> list[dict[str, Any]]:
    """The graph of the stage and, beside it, those of the others, on one scale of colour and width."""
    shown = [(current.stage, view, folds.get(current.stage) or {})]
    for stage in _others(document, current) if current.beside else ():
        other = graphview.view(document["graph"][stage], open_ids=view.open_ids)
        shown.append((stage, other, folds.get(stage) or {}))
    order = stages_of(document)
    shown.sort(key=lambda item: order.index(item[0]) if current.beside else 0)
    scale = {
        "bytes": max(widest(view) for _, view, _ in shown),
        "share": max(_top_share(view, current.by) for _, view, _ in shown),
    }
    drawn = [graph_json(view, current, rows) | {"scale": scale} for _, view, rows in shown]
    return [
        {
            "stage": stage,
            "id": f"network-graph-{at}" if at else "network-graph",
            "nodes": len(view.nodes),
            "widest": widest(view),
            "height": graph_height(drawn[at]),
            "json": drawn[at],
        }
        for at, (stage, view, _) in enumerate(shown)
    ]


def widest(view: graphview.View) -> float:
    """Bytes of the edge that carries the most."""
    return max((number(edge["bytes"]) or 0 for edge in view.edges if edge["kind"] != "repeat"), default=0)


def _top_share(view: graphview.View, by: str) -> float:
    name = by if by in graphview.MEASURES else "time"
    return max((node["shares"][name] or 0 for node in view.nodes if not node["open"]), default=0)


def _measure_of(options: Options) -> tuple[str, Text, str]:
    """What sizes the nodes: with ``by=bound`` the colour is the bound and the size the time."""
    return graphview.MEASURES.get(options.by, graphview.MEASURES["time"])


def _table_open(view: graphview.View, rows: Mapping[str, layertable.ModuleRow], options: Options) -> list[str]:
    """One set of open modules for both. Without a graph the table opens its first two levels by itself."""
    if options.open_ids is not None:
        return graphview.asked_open(options.open_ids, [*rows, *(i for i in view.open_ids if i not in rows)])
    if view.open_ids:
        return _with_ancestors(view.open_ids, rows)
    return [path for path, row in rows.items() if row.children and path.count(".") < 2]


def _with_ancestors(open_ids: Iterable[str], rows: Mapping[str, layertable.ModuleRow]) -> list[str]:
    """The graph leaves out lists of modules and the root; in the table they have to be open as well."""
    opened: dict[str, None] = {}
    for path in open_ids:
        chain = []
        current = rows.get(path)
        while current is not None:
            chain.append(current.path)
            current = rows.get(current.parent) if current.parent is not None else None
        opened.update(dict.fromkeys([*reversed(chain), path]))
    return list(opened)


def graph_json(view: graphview.View, options: Options, rows: Mapping[str, layertable.ModuleRow]) -> dict[str, Any]:
    """What the browser draws: every text is final, it only places and paints. Names carry no markup."""
    return {
        "measure": str(_measure_of(options)[1]),
        "paint": "bound" if options.by == "bound" else "heat",
        "nodes": [_graph_node(node, options, rows) for node in view.nodes],
        "edges": [_graph_edge(edge) for edge in view.edges],
    }


def _graph_node(node: Mapping[str, Any], options: Options, rows: Mapping[str, layertable.ModuleRow]) -> dict[str, Any]:
    key, _, unit = _measure_of(options)
    raw, share = node["raw"], node["shares"][options.by if options.by in graphview.MEASURES else "time"]
    opened = graphview.toggled(options.open_ids or (), node["id"])
    if not node["open"] and graphview.ALL not in opened:
        opened = _with_ancestors(opened, rows)
    kind = str(raw.get("kind") or "module")
    name = str(raw.get("label") or raw.get("class") or node["id"])
    # "0" says nothing: a numbered block is called by its class.
    label = plain(raw["class"] if name.isdigit() and raw.get("class") else name, 28)
    if node["folded"] > 1:
        label += f"  × {node['folded']}"
    value = node["sums"][key]
    return {
        "id": f"n:{node['id']}",
        "parent": None if node["parent"] is None else f"n:{node['parent']}",
        "path": node["id"],
        "label": label,
        "sub": show(value, unit) if value else "",
        "kind": kind,
        "bound": str(raw.get("bound") or ""),
        "value": value,
        "share": share,
        "open": node["open"],
        "expandable": node["expandable"],
        "toggle": options.link(open_ids=tuple(opened)) if node["expandable"] else "",
        "row": node["id"].partition("#")[0],
        "details": _details(node, raw),
    }


def _details(node: Mapping[str, Any], raw: Mapping[str, Any]) -> list[list[str]]:
    """Label and text of every number of the node; sums over all repetitions, one repetition beside it."""
    times = node["times"]
    rows = [
        [gettext("Path"), node["id"] or gettext("(whole model)")],
        [gettext("Class"), str(raw.get("class") or raw.get("kind") or unknown())],
    ]
    if times > 1:
        rows.append([gettext("Repeated"), gettext("× %(times)s, figures are for all of them") % {"times": times}])
    if node["sums"]["parameters"]:
        rows.append([gettext("Parameters"), count(node["sums"]["parameters"])])
    for key, title, unit in _DETAILS:
        value = node["sums"][key]
        if value is None and key == "measured_s":
            continue
        text = show(value, unit)
        if times > 1 and value:
            text = gettext("%(sum)s (%(each)s each)") % {"sum": text, "each": show(value / times, unit)}
        rows.append([str(title), text])
    share = node["shares"]["time"]
    if share is not None:
        rows.append([gettext("Share of time"), percent(share)])
    if raw.get("bound"):
        rows.append([gettext("Bound"), str(said(str(raw["bound"])))])
    if raw.get("output_shape"):
        rows.append([gettext("Output shape"), _shape(raw["output_shape"])])
    return rows


def _graph_edge(edge: Mapping[str, Any]) -> dict[str, Any]:
    size = number(edge.get("bytes"))
    text = show(size, "B")
    if edge.get("count", 1) > 1:
        text = gettext("%(size)s in %(count)s tensors") % {"size": text, "count": edge["count"]}
    elif edge.get("shape"):
        text += f" · {_shape(edge['shape'])} {plain(edge.get('dtype') or '')}"
    return {
        "source": f"n:{edge['source']}",
        "target": f"n:{edge['target']}",
        "kind": edge["kind"],
        "bytes": size,
        "label": text,
    }


def _shape(shape: Any) -> str:
    if not isinstance(shape, (list, tuple)):
        return plain(shape)
    return " × ".join(str(n) if isinstance(n, (int, float)) else plain(n) for n in shape)


def _table_row(row: layertable.ModuleRow, opened: set[str], options: Options) -> dict[str, Any]:
    raw, sums = row.raw, row.sums
    name = str(raw.get("name") or raw.get("path") or "") or gettext("whole model")
    return {
        "path": row.path,
        "name": name,
        "class": str(raw.get("class") or ""),
        "repeat": row.repeat,
        "current": options.at is not None and options.at == row.path,
        "select": options.selecting(row.path),
        "depth": min(row.depth, 8),
        "level": row.depth + 1,
        "open": row.path in opened,
        "expandable": bool(row.children),
        "toggle": options.link(open_ids=tuple(graphview.toggled(options.open_ids or (), row.path)))
        if row.children
        else "",
        "calls": count(sums.get("calls")),
        "parameters": count(sums.get("parameters")),
        "parameters_raw": sums.get("parameters"),
        "weights": show(sums.get("weight_bytes"), "B"),
        "flops": show(sums.get("flops"), "FLOP"),
        "bytes": show(sums.get("bytes"), "B"),
        "estimate": show(sums.get("estimate_s"), "s"),
        "inclusive": _measured(sums, "inclusive_s"),
        "exclusive": _measured(sums, "exclusive_s"),
        "share": "–" if row.share is None and not sums.get("calls") else percent(row.share),
        "share_width": f"{100 * row.share:.2f}" if row.share else "0",
        "bound": str(raw.get("bound") or ""),
        "shape": _shape(raw["output_shape"]) if raw.get("output_shape") else "",
    }


def _measured(sums: Mapping[str, Any], key: str) -> str:
    """A module that is never called (a list of modules) has no time of its own; any other without one is unknown."""
    return "–" if sums.get(key) is None and not sums.get("calls") else show(sums.get(key), "s")


def _sort_links(options: Options, measured: bool) -> list[dict[str, Any]]:
    titles = [
        ("", gettext("Module")),
        ("calls", gettext("Calls")),
        ("parameters", gettext("Parameters")),
        ("weights", gettext("Weights")),
        ("flops", gettext("FLOPs")),
        ("bytes", gettext("Bytes")),
        ("estimate", gettext("Estimate")),
    ]
    if measured:
        titles += [("inclusive", gettext("Measured")), ("exclusive", gettext("Own time"))]
    return [
        {
            "key": key,
            "title": title,
            "href": options.link(sort=key),
            "current": options.sort == key,
            "number": bool(key),
        }
        for key, title in titles
    ]


def _by_links(view: graphview.View, options: Options) -> list[dict[str, Any]]:
    """Only measures that this stage has: a switch to nothing but unknowns helps nobody."""
    offered = [
        (name, title) for name, (key, title, _) in graphview.MEASURES.items() if view.totals.get(key) or name == "time"
    ]
    offered += [("bound", gettext("Bound"))] if any(node["raw"].get("bound") for node in view.nodes) else []
    return [
        {"key": name, "title": title, "href": options.link(by=name), "current": options.by == name}
        for name, title in offered
    ]
