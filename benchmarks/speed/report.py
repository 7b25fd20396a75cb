"""Targets, ratios, and the table that is printed. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: A point of a formula tool written by hand for one family of models. Recorded earlier (LLM-Viewer 472f71f, ``analyze()`` of
#: Llama-2-7B, median of 9, two cores); it does not run here.
FORMULA_TOOL_S = 0.16e-3

COLD_TARGET_S = {"llama-3-70b": 2.0, "deepseek-v3": 4.0}
POINT_TARGET_S = 1e-3
BULK_TARGET_S, BULK_TARGET_BYTES, BULK_TARGET_GROUPS, BULK_POINTS = 1.0, 500e6, 60, 1_000_000


def targets(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every target that this run has a figure for. ``met``: None where the run was too short to tell."""
    found = []

    def add(name: str, value: float, limit: float, unit: str, *, at_least: bool = False, counts: bool = True) -> None:
        met = (value >= limit if at_least else value <= limit) if counts else None
        found.append({"name": name, "value": value, "limit": limit, "unit": unit, "met": met})

    for row in document["cold"]:
        limit = COLD_TARGET_S.get(row["model"])
        if limit and row["start"] == "warm" and row["what"] == "closed forms":
            add(f"cold analysis of {row['model']} in a warm child", row["answer_s"]["median"], limit, "s")
    for row in document["stored_point"]:
        add(f"stored point of {row['model']}", row["point_s"]["median"], POINT_TARGET_S, "s")
    for row in document["bulk"]:
        whole = row["points"] >= BULK_POINTS
        if row["operator_groups"] < BULK_TARGET_GROUPS:
            continue
        name = f"{row['points']:,} points of {row['model']}"
        add(name, row["first_s"]["median"], BULK_TARGET_S, "s", counts=whole)
        add(f"{name}, form read and prepared", row["from_disk_s"]["median"], BULK_TARGET_S, "s", counts=whole)
        add(f"memory of {name}", row["extra_bytes"]["max"], BULK_TARGET_BYTES, "bytes", counts=whole)
    return found


def ratios(document: dict[str, Any]) -> list[dict[str, Any]]:
    """How often our time for a point goes into that of each tool, for single points and for points in bulk."""
    singles = {row["model"]: row["point_s"]["median"] for row in document["stored_point"]}
    bulks = {row["model"]: row["first_s"]["median"] / row["points"] for row in document["bulk"]}
    found = []
    for tools in document["tools"]:
        name = tools["model"]
        for row in tools["rows"]:
            if "skipped" not in row:
                seconds = row["point_s"]["median"]
                found.append(
                    {
                        "model": name,
                        "against": f"{row['tool']}, {row['attention']}",
                        "measured": True,
                        "point_s": seconds,
                        "single": seconds / singles[name],
                        "bulk": seconds / bulks[name],
                    }
                )
    for name in singles:
        found.append(
            {
                "model": name,
                "against": "hand-written formula tool",
                "measured": False,
                "point_s": FORMULA_TOOL_S,
                "single": FORMULA_TOOL_S / singles[name],
                "bulk": FORMULA_TOOL_S / bulks[name],
            }
        )
    return found


def say(seconds: float) -> str:
    units = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
    unit, size = next((u for u in units if seconds >= u[1]), units[-1])
    return f"{seconds / size:.3g} {unit}"


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join(["", title, text[0], "-" * len(text[0]), *text[1:]])


def text(document: dict[str, Any]) -> str:
    """The whole result for a terminal."""
    machine, versions = document["machine"], document["versions"]
    before, after = document["load_before"][0], document["load_after"][0]
    parts = [
        f"{machine['cpu']}, {machine['logical_cores']} cores, {machine['memory_bytes'] / 1e9:.0f} GB; load average "
        f"{before:.2f} before, {after:.2f} after" + ("" if document["quiet"] else " — NOT QUIET, see “contended”"),
        ", ".join(f"{name} {v or 'not installed'}" for name, v in versions.items()),
        _cold(document),
        _stored(document),
        _bulk(document),
        _tools(document),
        _ratios(document),
        _targets(document),
    ]
    return "\n".join(parts)


def _spread(values: dict[str, Any]) -> list[str]:
    return [str(values["n"]), say(values["median"]), say(values["iqr"]) if values["n"] > 1 else ""]


def _cold(document: dict[str, Any]) -> str:
    head = ("model, start, what", "n", "answer", "IQR", "imports", "forms", "point", "store", "contended")
    rows = []
    for row in document["cold"]:
        parts = row.get("parts", {})
        cells = [say(parts[k]["median"]) if k in parts else "" for k in ("imports_s", "forms_s", "point_s", "store_s")]
        name = f"{row['model']}, {row['start']}, {row['what']}"
        rows.append([name, *_spread(row["answer_s"]), *cells, str(row["contended"])])
    return table("Cold analysis: seconds from request (fresh: from exec) to answer", head, rows)


def _stored(document: dict[str, Any]) -> str:
    head = ("model", "n", "one point", "IQR", "p95", "point_terms", "p95", "load", "prepare", "contended")
    rows = []
    for row in document["stored_point"]:
        point, terms = row["point_s"], row["point_terms_s"]
        p95 = [say(item["p95"] or item["max"]) for item in (point, terms)]
        rows.append(
            [
                row["model"],
                *_spread(point),
                p95[0],
                say(terms["median"]),
                p95[1],
                say(row["load_s"]["median"]),
                say(row["prepare_s"]["median"]),
                str(row["contended"]),
            ]
        )
    return table("Stored forms, single points (no torch in the process)", head, rows)


def _bulk(document: dict[str, Any]) -> str:
    head = [
        "model",
        "points",
        "groups",
        "rows",
        "n",
        "all",
        "IQR",
        "again",
        "from disk",
        "extra MB",
        "equal",
        "contended",
    ]
    rows = []
    for row in document["bulk"]:
        rows.append(
            [
                row["model"],
                f"{row['points']:,}",
                str(row["operator_groups"]),
                "+".join(str(n) for n in row["rows"].values()),
                *_spread(row["first_s"]),
                say(row["again_s"]["median"]),
                say(row["from_disk_s"]["median"]),
                f"{row['extra_bytes']['max'] / 1e6:.0f}",
                "yes" if row["checked"]["equal"] else f"NO ({row['checked']['largest_difference']:.1e})",
                str(row["contended"]),
            ]
        )
    return table("Stored forms, many random points (devices and formats mixed)", head, rows)


def _tools(document: dict[str, Any]) -> str:
    head = ("model, tool, attention", "n", "one point", "IQR", "FLOPs of it", "against ours")
    rows = []
    for item in document["tools"]:
        ours = item["ours"]
        for row in item["rows"]:
            name = f"{item['model']}, {row['tool']}, {row['attention']}"
            if "skipped" in row:
                rows.append([name, "", "", "", row["skipped"], ""])
                continue
            counted = row["flops"][-1]
            against = "" if counted is None else f"{100 * (counted / ours[-1]['products'] - 1):+.3f}%"
            rows.append([name, *_spread(row["point_s"]), "" if counted is None else f"{counted / 1e9:,.2f} G", against])
        last = ours[-1]
        rows.append(
            [
                f"{item['model']}, closed form: products",
                "",
                "",
                "",
                f"{last['products'] / 1e9:,.2f} G",
                f"element-wise {last['elementwise'] / 1e9:,.2f} G",
            ]
        )
    return table("Counting tools, prefill with all logits (FLOPs at the last point)", head, rows)


def _ratios(document: dict[str, Any]) -> str:
    head = ("model, against", "one point", "÷ ours, single", "÷ ours, in bulk")
    rows = []
    for row in document["ratios"]:
        note = "" if row["measured"] else " (recorded earlier, not measured here)"
        rows.append(
            [
                f"{row['model']}, {row['against']}{note}",
                say(row["point_s"]),
                f"{row['single']:,.1f}",
                f"{row['bulk']:,.0f}",
            ]
        )
    return table(
        "Ratios (ours returns the columns of a whole generation, the tools the FLOPs of its prefill)", head, rows
    )


def _targets(document: dict[str, Any]) -> str:
    def shown(value: float, unit: str) -> str:
        return say(value) if unit == "s" else f"{value / 1e6:.0f} MB"

    words = {True: "met", False: "MISSED", None: "too short to tell"}
    rows = [
        [t["name"], shown(t["value"], t["unit"]), shown(t["limit"], t["unit"]), words[t["met"]]]
        for t in document["targets"]
    ]
    return table("Targets", ("target", "median", "limit", ""), rows)
