"""The loads of several processes as one: every process is sent the same load. numpy and the standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from profiling.load_metrics import SERIES, latencies
from profiling.server import COLUMNS, Served
from profiling.statistics import summarise
from profiling.student import interval
from profiling.units import metric

Document = dict[str, Any]

#: Metrics of which a process has one number, not one a request.
RATES = ("request_throughput", "request_output_throughput", "request_goodput", "goodput_share")
#: Those of them that count every request that came, served or not.
OF_ALL_DUE = ("request_goodput", "goodput_share")
KEYS = (*SERIES, *RATES)
#: What of ``load`` must be the same before latencies of two loads may be ranked.
ASKED = ("mode", "concurrency", "rate", "requests", "seconds", "input_lengths", "output_lengths", "scheduling")


def pool_load(documents: Sequence[Document]) -> Document:
    """``load``, ``requests`` (with the column ``process``) and ``metrics`` of the documents, one a process in their order; empty without a load.

    ``value`` and ``median`` of a metric are the median of what the processes have (of latencies, their medians), ``processes`` lists
    those, ``ci95`` is Student's t over their logarithms; n, extremes and percentiles are of all requests. A process to which requests
    came and that served none has rates of zero, which count, and no latencies; one that was cut off in its load has neither.
    """
    known = [(index, document) for index, document in enumerate(documents) if document.get("requests")]
    if not known:
        return {}
    requests = {
        "columns": ["process", *known[0][1]["requests"]["columns"]],
        "rows": [[index, *row] for index, document in known for row in document["requests"]["rows"]],
    }
    found = {"load": _described([document["load"] for _, document in known]), "requests": requests}
    return found | {"metrics": _metrics([document for _, document in known])}


def _described(loads: Sequence[Mapping[str, Any]]) -> Document:
    """The load once, with what came of it in all processes together; null where one of them does not say (its load was cut off)."""

    def over(name: str, combine: Any) -> Any:
        values = [load.get(name) for load in loads]
        return None if None in values else combine(values)

    grows = [load.get("queue_grows") for load in loads]
    busy = [load.get("contended") for load in loads]
    return dict(loads[0]) | {
        "processes": len(loads),
        "due": over("due", sum),
        "served": over("served", sum),
        "padding_tokens": over("padding_tokens", sum),
        "queue_grows": True if True in grows else None if None in grows else False,
        "foreign_cores": over("foreign_cores", max),
        "contended": True if True in busy else None if None in busy else False,
    }


def _metrics(documents: Sequence[Document]) -> Document:
    own = [document.get("metrics") or {} for document in documents]
    found: Document = {}
    idle = [_served_nothing(document) for document in documents]
    for key in KEYS:
        if not any(key in metrics for metrics in own):
            continue
        values = [
            metrics[key]["value"] if key in metrics else 0.0
            for metrics, nothing in zip(own, idle, strict=True)
            if key in metrics or (key in RATES and nothing)
        ]
        if key in RATES:
            summary: Document = {"n": sum(metrics[key]["n"] for metrics in own if key in metrics)}
            if key in OF_ALL_DUE:
                summary["n"] += sum(idle)
        else:
            summary = summarise([value for document in documents for value in _values(key, document["requests"])])
        middle = float(np.median(values))
        summary |= {"median": middle, "processes": values, "ci95": interval(values)}
        found[key] = metric(key, middle, "measured", **summary)
    return found


def _served_nothing(document: Document) -> int:
    """How many requests came to a process whose load went to its end without one that was served; 0 for any other."""
    load = document["load"]
    return int(load.get("due") or 0) if load.get("served") == 0 else 0


def _values(key: str, requests: Mapping[str, Any]) -> list[float]:
    """Seconds of each request that was served."""
    at = [requests["columns"].index(name) for name in COLUMNS]
    served = (latencies(Served(*(row[i] for i in at))) for row in requests["rows"])
    return [each[SERIES[key]] for each in served if SERIES[key] in each]


def times_of(key: str, document: Mapping[str, Any]) -> list[list[int]]:
    """Integer ns, one list a process, by which metric ``key`` of a load is ranked: its latency, or the time that is the inverse of its rate.
    Empty where it has none, or where a process has zero (none waited, nothing was good): there is no ratio to speak of."""
    values = ((document.get("metrics") or {}).get(key) or {}).get("processes") or []
    if not values or not all(isinstance(value, (int, float)) and value > 0 for value in values):
        return []
    return [[round(1e9 / value if key in RATES else 1e9 * value)] for value in values]
