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
    """Per method: number of pairs with a prediction, median and 90th percentile of |error|, and the median error with its sign; ``paired``:
    the same two of :func:`paired_error`."""
    found = {}
    for method in METHODS:
        errors = [pair["error"][method] for pair in pairs if pair["error"][method] is not None]
        sizes = sorted(abs(error) for error in errors)
        paired = sorted(abs(error) for pair in pairs if (error := paired_error(pair, method)) is not None)
        found[method] = {
            "n": len(errors),
            "of": len(pairs),
            "median": median(sizes) if sizes else None,
            "p90": percentile_90(sizes),
            "bias": median(errors) if errors else None,
            "paired": {"median": median(paired) if paired else None, "p90": percentile_90(paired)},
        }
    return found


def paired_error(pair: dict[str, Any], method: str) -> float | None:
    """Median over the rounds of prediction ÷ measurement of the same round − 1: without the machine's swings from round to round, which
    the error of the two medians has in it. None where a round has no prediction."""
    predicted = pair["predicted_rounds_s"][method]
    if any(value is None for value in predicted):
        return None
    return median(p / m - 1 for p, m in zip(predicted, pair["measured_rounds_s"], strict=True))


def repeats(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How far a measurement is from the median of the other rounds' measurements of the same: what no prediction can be better than.
    Over all pairs and rounds; None where there is one round only."""
    sizes = sorted(
        abs(value / median([*rounds[:n], *rounds[n + 1 :]]) - 1)
        for pair in pairs
        if len(rounds := pair["measured_rounds_s"]) > 1
        for n, value in enumerate(rounds)
    )
    return {"n": len(sizes), "median": median(sizes) if sizes else None, "p90": percentile_90(sizes)}


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
    for name, key in (("median, paired by round", "median"), ("90th percentile, paired by round", "p90")):
        values = "".join(f" {_percent(document['summary'][method]['paired'][key], False):>11}" for method in METHODS)
        lines.append(f"{name:<43}{values}")
    lines.append("")
    repeat = document["repeat"]
    if repeat["n"]:
        lines.append(
            f"A measurement against the median of the other rounds: median {_percent(repeat['median'], False)}, 90th percentile "
            f"{_percent(repeat['p90'], False)}."
        )
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
