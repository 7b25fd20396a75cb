"""The errors of predictions as a table, and against what was asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

METHODS = ("own", "left out", "measured", "two lines")
#: Method → largest median and largest 90th percentile of |error| that are good enough; None: not limited.
LIMITS: dict[str, tuple[float, float | None]] = {
    "own": (0.10, 0.25),
    "left out": (0.25, None),
    "measured": (0.25, None),
}


def summary(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per method: number of pairs with a prediction, median and 90th percentile of |error|, and the median error with its sign."""
    found = {}
    for method in METHODS:
        errors = [pair["error"][method] for pair in pairs if pair["error"][method] is not None]
        sizes = sorted(abs(error) for error in errors)
        found[method] = {
            "n": len(errors),
            "of": len(pairs),
            "median": median(sizes) if sizes else None,
            "p90": percentile_90(sizes),
            "bias": median(errors) if errors else None,
        }
    return found


def percentile_90(sizes: Sequence[float]) -> float | None:
    """None for fewer than two values."""
    return quantiles(sizes, n=10, method="inclusive")[-1] if len(sizes) > 1 else None


def targets(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What was asked: ``met`` is None where the run was too short to say."""
    pairs = document["pairs"]
    enough = not document["quick"] and document["rounds"] >= 5
    wide = len(pairs) >= 12 and len({pair["family"] for pair in pairs}) >= 5
    found = [
        {"name": "at least 12 pairs over 5 families, 5 rounds", "value": len(pairs), "met": enough and wide},
    ]
    for method, (middle, tail) in LIMITS.items():
        for name, key, limit in (("median", "median", middle), ("90th percentile", "p90", tail)):
            value = document["summary"][method][key]
            complete = document["summary"][method]["n"] == len(pairs)
            if limit is not None:
                met = value is not None and complete and value <= limit
                found.append(
                    {
                        "name": f"{method}: {name} of |error| at most {limit:.0%}",
                        "value": value,
                        "met": met if enough else None,
                    }
                )
    return found


def text(document: dict[str, Any]) -> str:
    """The table, the summary and the targets."""
    head = f"{'model':<12} {'stage':<8} {'batch x in':>10} {'measured':>10}" + "".join(f" {m:>11}" for m in METHODS)
    lines = [head + "  contended"]
    for pair in document["pairs"]:
        shape = f"{pair['batch']} x {pair['input_tokens']}"
        errors = "".join(f" {_percent(pair['error'][method]):>11}" for method in METHODS)
        contended = f"{pair['contended_rounds']} of {document['rounds']}" if pair["contended_rounds"] else ""
        lines.append(
            f"{pair['model']:<12} {pair['stage']:<8} {shape:>10} {pair['measured_s'] * 1e3:>7.1f} ms{errors}  {contended}"
        )
    lines.append("")
    for name, key in (("median |error|", "median"), ("90th percentile", "p90"), ("median error", "bias")):
        values = "".join(f" {_percent(document['summary'][method][key], key == 'bias'):>11}" for method in METHODS)
        lines.append(f"{name:<43}{values}")
    lines.append("")
    words = {True: "met", False: "NOT met", None: "not decided"}
    for target in document["targets"]:
        value = target["value"]
        shown = value if isinstance(value, int) else _percent(value, False)
        lines.append(f"{words[target['met']]:<12} {target['name']}: {shown}")
    if not document["quiet"]:
        counts = ", ".join(f"{count} of {name}" for name, count in document["contended_rounds"].items() if count)
        lines.append(f"Other work ran meanwhile, in spite of repetitions: {counts}.")
    return "\n".join(lines)


def _percent(value: float | None, signed: bool = True) -> str:
    if value is None:
        return "unknown"
    return f"{value:+.0%}" if signed else f"{value:.1%}"
