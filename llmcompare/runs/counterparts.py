"""Which parts of compared runs are counterparts: one key for what is the same on every side, selected with ``?at=``.

Runs of one architecture are aligned by the path of their modules, with ``*`` for the number of a block; others by role and name. A whole
role has a key too. The keys are those of the rows of the layer table (:mod:`llmcompare.runs.rolediff`); nodes of graphs and points of
rooflines get theirs here, for highlighting only: no figure depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmcompare.runs import graphview
from llmcompare.runs.charts import points_of
from llmcompare.runs.compare import Column
from llmcompare.runs.extract import OWN_WORK, module_name, pattern_of
from llmcompare.runs.layertable import ModuleRow
from llmcompare.runs.modelroles import role_of
from llmcompare.runs.selection import links

_ROLE = "role:"
#: Nodes of a graph that are no part of the model.
_NO_PART = ("input", "output")


def aligned_by_module(columns: Sequence[Column]) -> bool:
    """Whether all have one architecture, so that the same path is the same module."""
    return len({(c.document.get("model") or {}).get("architecture") or c.run.pk for c in columns}) == 1


def part_key(pattern: str, name: str, role: str, by_module: bool) -> str:
    """The key of a part of an extract: rows with the same are one row of the layer table."""
    return pattern if by_module else f"{role} {name}"


def match_of(key: str) -> str:
    """What all that belongs to one module has in common: its own work, and it as a whole."""
    return key.removesuffix(OWN_WORK)


def of_role(role: str) -> str:
    return f"{_ROLE}{role}"


def of_module(path: str, class_name: str, by_module: bool) -> str:
    """The key of the module at ``path``."""
    pattern = pattern_of(path)
    return part_key(pattern, module_name(pattern), role_of(path, class_name), by_module)


def mark_nodes(nodes: Sequence[Mapping[str, Any]], graph: Mapping[str, Any], by_module: bool) -> list[dict[str, Any]]:
    """The nodes that are drawn of ``graph`` with ``match``, their key, ``role``, and ``holds``: keys and roles of what is inside a closed
    one."""
    tree = graphview.build_tree(graph)
    classes = {str(raw.get("id")): str(raw.get("class") or "") for raw in graph.get("nodes") or []}
    drawn = {str(node["path"]) for node in nodes}
    keys: dict[str, tuple[str, str]] = {}
    inside: dict[str, dict[str, None]] = {}
    for node in tree.values():
        if node.grouped or node.raw.get("kind") in _NO_PART:
            continue
        module = node.id.partition("#")[0]
        class_name = classes.get(module, "")
        keys[node.id] = (of_module(module, class_name, by_module), of_role(role_of(module, class_name)))
        above: str | None = node.id
        while above is not None and above not in drawn:
            above = tree[above].parent if above in tree else None
        if above is not None and above != node.id:
            inside.setdefault(above, {}).update(dict.fromkeys(keys[node.id]))
    return [
        {**node, "match": key, "role": role, "holds": [] if node["open"] else list(inside.get(str(node["path"]), ()))}
        for node in nodes
        for key, role in [keys.get(str(node["path"]), ("", ""))]
    ]


def points(columns: Sequence[Column], by_module: bool) -> dict[str, list[str]]:
    """``<column>|<label of the point>`` → keys of the modules that it stands for: one, or that of their role where they are several."""
    found = {}
    for at, column in enumerate(columns):
        rows = _rows(column)
        labels = dict.fromkeys(str(point.get("label")) for point in points_of(column.document))
        for label, paths in links(labels, rows).items():
            keys = dict.fromkeys(of_module(path, str(rows[path].raw["class"]), by_module) for path in paths)
            roles = {role_of(path, str(rows[path].raw["class"])) for path in paths}
            found[f"{at}|{label}"] = [of_role(*roles), *keys] if len(keys) > 1 and len(roles) == 1 else list(keys)
    return found


def _rows(column: Column) -> dict[str, ModuleRow]:
    """The modules that the extract has, by the path of their first block, as :func:`llmcompare.runs.selection.links` takes them."""
    rows: dict[str, ModuleRow] = {}
    for pattern, name, role in _parts(column.document):
        path = pattern.replace("*", "0")
        row = ModuleRow(path, None, {"class": "Norm" if role == "norm" else ""})
        row.children = [""] if name.endswith(OWN_WORK) else []
        rows.setdefault(path, row)
    return rows


def _parts(document: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    for measures in (document.get("roles") or {}).values():
        for whole in measures.values():
            for pattern, name, role, *_ in whole["parts"]:
                if not str(pattern).startswith("#"):
                    yield str(pattern), str(name), str(role)
