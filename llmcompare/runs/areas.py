"""What takes the time, or the memory, as a tree of parts of one whole: what the treemap and the icicle draw.

Built from the folded module table, so that identical blocks are one part "× N". A module's *own* figure is what is left of it without
the modules inside; own figures add up to the whole, which is why areas may show them. Nothing is rescaled: a module without a figure
is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _

from llmcompare.common.saying import Text, said
from llmcompare.runs import layertable
from llmcompare.runs.modelroles import role_of
from profiling.quantities import number

Document = Mapping[str, Any]

#: Measure → (column of the module table, title, unit). ``memory`` is the weights of modules beside what else is in memory.
MEASURES: dict[str, tuple[str, Text, str]] = {
    "measured": ("exclusive_s", _("Measured own time"), "s"),
    "time": ("estimate_s", _("Estimated time"), "s"),
    "memory": ("weight_bytes", _("Estimated memory"), "B"),
    "flops": ("flops", _("FLOPs"), "FLOP"),
    "bytes": ("bytes", _("Bytes moved"), "B"),
}
#: What is in memory beside weights: key of ``memory.estimate`` → title.
_BESIDE_WEIGHTS = {
    "kv_cache_bytes": gettext_noop("KV cache"),
    "state_bytes": gettext_noop("State"),
    "activation_peak_bytes": gettext_noop("Activations (peak)"),
    "widened_bytes": gettext_noop("Widened copy"),
}
#: No more parts than this are drawn; the smallest of each module stand together.
MAX_PARTS = 90
#: In a tree of more parts, a module that is less of the whole is drawn without what is inside.
_LITTLE = 0.025
_ALIKE = 1e-9


@dataclass
class Area:
    """A part: ``own`` without what is inside, ``total`` with it, in the measure's unit, over all ``times`` repetitions.

    ``path`` is the module's, or "" with ``module`` False for what is none."""

    path: str
    name: str
    role: str
    own: float
    total: float
    times: int = 1
    module: bool = True
    children: list[Area] = field(default_factory=list)


@dataclass(frozen=True)
class Whole:
    """The tree of one stage and measure. ``unknown``: modules without a figure. ``shared``: weights of ``shared_by`` that are another
    module's and count there. ``note``: what a reader must know, or ""."""

    root: Area
    measure: str
    unknown: int = 0
    shared_by: tuple[str, ...] = ()
    note: str = ""


def shown_name(area: Area) -> str:
    """What the area is called on a page: of what is no module, the name has a translation."""
    return area.name if area.module and area.path else str(said(area.name))


def measures_of(document: Document, rows: Mapping[str, layertable.ModuleRow]) -> list[str]:
    """The measures that have something to show, the best first: measured own time where there is one."""
    found = [
        name
        for name, (key, _, _) in MEASURES.items()
        if any((number(row.sums.get(key)) or 0) > 0 for row in rows.values())
    ]
    estimate = (document.get("memory") or {}).get("estimate") or {}
    if "memory" not in found and any((number(estimate.get(key)) or 0) > 0 for key in _BESIDE_WEIGHTS):
        found.append("memory")
    return sorted(found, key=list(MEASURES).index)


def whole(document: Document, rows: Mapping[str, layertable.ModuleRow], measure: str, stage: str) -> Whole | None:
    """The tree of ``measure`` over ``rows`` (folded, of one stage); ``None`` when nothing has a figure."""
    tied = _tied(document, stage) if measure == "memory" else frozenset()
    key = MEASURES[measure][0]
    unknown: list[str] = []
    shared: list[str] = []
    areas: dict[str, Area] = {}
    for path in reversed(list(rows)):
        areas[path] = _area(rows[path], areas, key, exclusive=measure == "measured", unknown=unknown)
    roots = [areas[path] for path, row in rows.items() if row.parent is None]
    root = (
        roots[0]
        if len(roots) == 1
        else Area("", gettext_noop("whole model"), "other", 0, sum(r.total for r in roots), children=roots)
    )
    if measure == "memory":
        root, shared = _without_shared(root, tied)
        return _with_memory(document, root, tuple(shared))
    return Whole(root, measure, len(unknown)) if root.total > 0 else None


def _area(
    row: layertable.ModuleRow, areas: Mapping[str, Area], key: str, *, exclusive: bool, unknown: list[str]
) -> Area:
    children = [areas[path] for path in row.children if path in areas]
    inside = sum(child.total for child in children)
    value = number(row.sums.get(key))
    if exclusive:
        own = value or 0.0
        # A list of modules is never called: it has no time of its own, and that is known.
        if value is None and row.sums.get("calls"):
            unknown.append(row.path)
    else:
        own = (value - inside) if value is not None else 0.0
        if value is None and not children:
            unknown.append(row.path)
        # Sums of floats: what is left of them is no work of its own.
        own = 0.0 if abs(own) <= _ALIKE * inside else own
        # Weights that two modules share are sorted out later; of anything else a part cannot be larger than its whole.
        own = own if key == "weight_bytes" else max(own, 0.0)
    name = str(row.raw.get("name") or row.path.rpartition(".")[2])
    return Area(
        row.path,
        # "0" says nothing: a numbered block is called with its list.
        ".".join(row.path.split(".")[-2:]) if name.isdigit() else name or gettext_noop("whole model"),
        role_of(row.path, str(row.raw.get("class") or "")),
        own,
        own + inside,
        row.repeat,
        children=children,
    )


def _tied(document: Document, stage: str) -> frozenset[str]:
    nodes = ((document.get("graph") or {}).get(stage) or {}).get("nodes") or []
    return frozenset(str(node.get("id")).partition("#")[0] for node in nodes if node.get("tied"))


def _without_shared(root: Area, tied: frozenset[str]) -> tuple[Area, list[str]]:
    """Weights that two modules share count once. What a module says of itself is right; where those inside hold more, some of them
    share: the ones that the graph calls tied, else the last whose weights are the difference."""
    shared: list[str] = []
    for area in _deepest_first(root):
        if area.own < 0:
            excess = -area.own
            inside = [a for child in area.children for a in _every(child)]
            candidates = [a for a in inside if a.path in tied and a.total > 0] or [
                a for a in reversed(inside) if not a.children and abs(a.own - excess) <= _ALIKE * excess
            ][:1]
            for found in candidates:
                found.own, found.children = 0.0, []
                shared.append(found.path)
            area.own = 0.0
        area.total = area.own + sum(child.total for child in area.children)
    _add_up(root)
    return root, shared


def _add_up(root: Area) -> None:
    for area in _deepest_first(root):
        area.total = max(area.own, 0.0) + sum(child.total for child in area.children)


def _with_memory(document: Document, weights: Area, shared: tuple[str, ...]) -> Whole | None:
    estimate = (document.get("memory") or {}).get("estimate") or {}
    stated = number(estimate.get("weights_bytes"))
    note = ""
    if stated is not None and abs(weights.total - stated) > 1e-3 * max(stated, 1):
        # Of several devices, or of formats that the modules do not tell: only the total is known to be right.
        weights = Area("", gettext_noop("Weights"), "other", stated, stated, module=False)
        note = gettext(
            "Weights are not divided by module: the modules' add up to another figure than the memory of one device."
        )
    parts = [replace(weights, name=gettext_noop("Weights") if not weights.path else weights.name)]
    for key, title in _BESIDE_WEIGHTS.items():
        size = number(estimate.get(key)) or 0
        if size > 0:
            parts.append(Area("", title, "other", size, size, module=False))
    root = Area("", gettext_noop("memory"), "other", 0, sum(p.total for p in parts), module=False, children=parts)
    return Whole(root, "memory", 0, shared, note) if root.total > 0 else None


def _every(area: Area) -> Iterator[Area]:
    """The area and everything inside, outermost first."""
    stack = [area]
    while stack:
        current = stack.pop()
        yield current
        stack += reversed(current.children)


def _deepest_first(area: Area) -> list[Area]:
    return list(reversed(list(_every(area))))


def parts_of(tree: Area) -> list[Area]:
    """Everything that has something of its own: what the table lists, largest first, equal ones in the order of the model."""
    return sorted((area for area in _every(tree) if area.own > 0), key=lambda area: -area.own)


def drawable(tree: Area) -> Area:
    """The tree without chains of single modules and without parts of nothing; own work of a module with parts is a part beside them;
    of more than :data:`MAX_PARTS` parts, modules that are little of the whole are one part each, and the smallest stand together."""
    owns = sorted((area.own for area in _every(tree) if area.own > 0), reverse=True)
    least = owns[MAX_PARTS - 1] if len(owns) > MAX_PARTS else 0.0
    closed = tree.total * _LITTLE if least else 0.0
    built: dict[int, Area] = {}
    for area in _deepest_first(tree):
        inside = [] if area.total < closed else [built[id(child)] for child in area.children]
        built[id(area)] = _simplified(area, inside, least)
    return built[id(tree)]


def _simplified(area: Area, children: list[Area], least: float) -> Area:
    kept = [c for c in children if c.total > 0 and (c.children or c.total >= least)]
    small = [c for c in children if c.total > 0 and not (c.children or c.total >= least)]
    if len(small) == 1:
        kept, small = [c for c in children if c.total > 0], []
    if small:
        total = sum(c.total for c in small)
        kept.append(
            Area(
                area.path,
                gettext("%(count)s smaller") % {"count": len(small)},
                area.role,
                total,
                total,
                module=area.module,
            )
        )
    if not kept:
        return replace(area, children=[])
    if area.own > 0:
        kept.append(
            replace(
                area,
                name=gettext("%(name)s: own work") % {"name": shown_name(area)},
                total=area.own,
                times=1,
                children=[],
            )
        )
    elif len(kept) == 1:
        (only,) = kept
        name = f"{area.name}.{only.name}" if area.path and only.module else only.name
        return replace(only, name=name, times=max(area.times, 1) * only.times)
    return replace(area, own=0.0, children=kept)
