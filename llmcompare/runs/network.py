"""The layer graph and the module table of one stage, ready for the page: texts, links, and the JSON that ``static/graph.js`` draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from llmcompare.runs import graphview, layertable
from llmcompare.runs.charts import plain
from llmcompare.runs.viewoptions import Options
from profiling.graph_exports import EXPORTERS
from profiling.quantities import UNKNOWN, count, number, percent, show

Document = Mapping[str, Any]

_DETAILS = (
    ("time_s", "Estimated time", "s"),
    ("measured_s", "Measured time", "s"),
    ("flops", "FLOPs", "FLOP"),
    ("bytes", "Bytes moved", "B"),
    ("memory_bytes", "Memory", "B"),
    ("weight_bytes", "Weights", "B"),
)


def network(document: Document, options: Options) -> dict[str, Any] | None:
    """Graph and table of ``options.stage``; ``None`` when the document has neither."""
    graph = (document.get("graph") or {}).get(options.stage)
    rows = layertable.fold(document.get("modules"), options.stage)
    if not graph and not rows:
        return None
    view = graphview.view(graph or {}, open_ids=options.open_ids)
    opened = _table_open(view, rows, options)
    current = Options(**{**options.__dict__, "open_ids": tuple(opened)})
    visible, cut = layertable.visible_rows(rows, open_ids=set(opened), sort=options.sort, find=options.find)
    measured = any(row.sums.get("inclusive_s") is not None for row in rows.values())
    return {
        "graph": graph_json(view, current, rows) if graph else None,
        "graph_nodes": len(view.nodes),
        "dropped_edges": view.dropped_edges,
        "rows": [_table_row(row, set(opened), current) for row in visible],
        "cut": cut,
        "total_rows": len(rows),
        "measured": measured,
        "sorts": _sort_links(current, measured),
        "by_links": _by_links(view, current),
        "measure": graphview.MEASURES[options.by][1],
        "files": [
            (f"graph.{form.suffix}?{urlencode({'stage': options.stage})}", form.title) for form in EXPORTERS.values()
        ]
        if graph
        else [],
        "open_links": [
            (current.link(open_ids=_everything(rows, view)), "open all"),
            (current.link(open_ids=()), "close all"),
            (current.link(open_ids=None, find="", sort=""), "reset"),
        ],
    }


def _table_open(view: graphview.View, rows: Mapping[str, layertable.ModuleRow], options: Options) -> list[str]:
    """One set of open modules for both. Without a graph the table opens its first two levels by itself."""
    if options.open_ids is not None:
        return [i for i in options.open_ids if i in rows or i in view.open_ids]
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


def _everything(rows: Mapping[str, layertable.ModuleRow], view: graphview.View) -> tuple[str, ...]:
    return tuple(path for path, row in rows.items() if row.children) or tuple(view.open_ids)


def graph_json(view: graphview.View, options: Options, rows: Mapping[str, layertable.ModuleRow]) -> dict[str, Any]:
    """What the browser draws: every text is final, it only places and paints. Names carry no markup."""
    _, title, _ = graphview.MEASURES[options.by]
    return {
        "measure": title,
        "nodes": [_graph_node(node, options, rows) for node in view.nodes],
        "edges": [_graph_edge(edge) for edge in view.edges],
    }


def _graph_node(node: Mapping[str, Any], options: Options, rows: Mapping[str, layertable.ModuleRow]) -> dict[str, Any]:
    key, _, unit = graphview.MEASURES[options.by]
    raw, share = node["raw"], node["shares"][options.by]
    opened = graphview.toggled(options.open_ids or (), node["id"])
    if not node["open"]:
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
    rows = [["Path", node["id"] or "(whole model)"], ["Class", str(raw.get("class") or raw.get("kind") or UNKNOWN)]]
    if times > 1:
        rows.append(["Repeated", f"× {times}, figures are for all of them"])
    if node["sums"]["parameters"]:
        rows.append(["Parameters", count(node["sums"]["parameters"])])
    for key, title, unit in _DETAILS:
        value = node["sums"][key]
        if value is None and key == "measured_s":
            continue
        text = show(value, unit)
        if times > 1 and value:
            text += f" ({show(value / times, unit)} each)"
        rows.append([title, text])
    share = node["shares"]["time"]
    if share is not None:
        rows.append(["Share of time", percent(share)])
    if raw.get("bound"):
        rows.append(["Bound", str(raw["bound"])])
    if raw.get("output_shape"):
        rows.append(["Output shape", _shape(raw["output_shape"])])
    return rows


def _graph_edge(edge: Mapping[str, Any]) -> dict[str, Any]:
    size = number(edge.get("bytes"))
    text = show(size, "B")
    if edge.get("count", 1) > 1:
        text += f" in {edge['count']} tensors"
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
    name = str(raw.get("name") or raw.get("path") or "") or "whole model"
    return {
        "path": row.path,
        "name": name,
        "class": str(raw.get("class") or ""),
        "repeat": row.repeat,
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
        ("", "Module"),
        ("calls", "Calls"),
        ("parameters", "Parameters"),
        ("weights", "Weights"),
        ("flops", "FLOPs"),
        ("bytes", "Bytes"),
        ("estimate", "Estimate"),
    ]
    if measured:
        titles += [("inclusive", "Measured"), ("exclusive", "Own time")]
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
    return [
        {"key": name, "title": title, "href": options.link(by=name), "current": options.by == name}
        for name, (key, title, _) in graphview.MEASURES.items()
        if view.totals.get(key) or name == "time"
    ]
