"""The part of a run document that comparisons read: everything but its long tables, and what those say by role.

Documents of deep models are megabytes, and a comparison has up to twenty. A document never changes, so its extract is made once: when the
run ends, or when it is first compared.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any

from llmcompare.runs import areas, layertable
from llmcompare.runs.models import Run, RunDocument, RunExtract
from llmcompare.runs.selection import ATTENTION, FEED_FORWARD

logger = logging.getLogger(__name__)

#: Extracts of another version are made anew.
VERSION = 2
#: Long, and nothing of them is shown side by side. ``samples`` stay: verdicts are made of them.
LEFT_OUT = frozenset(
    {"modules", "operators", "graph", "profiled", "requests", "resources", "process_documents", "served"}
)
#: Extracts that are made beside a request are stored after so many seconds.
KEEP_AFTER_S = 5.0
#: A page makes extracts for so many seconds (at least one of them) and names the runs that are left: a worker or its next opening goes on.
PAGE_S = 1.0
#: What the own work of a module that holds others is called by.
OWN_WORK = ": own work"
MEASURES = ("measured", "time", "flops", "bytes", "memory")


def extract_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """``document`` without what is long, and ``roles``: stage → measure → parts."""
    found = {key: value for key, value in document.items() if key not in LEFT_OUT}
    return found | {"roles": roles_of(document)}


def roles_of(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Stage → measure → ``{total, unknown, parts}``; a part is ``[pattern, name, role, own, modules]``: modules that only differ in the
    number of their block, together. Own figures are without the modules inside, so they add up to the total."""
    found: dict[str, dict[str, Any]] = {}
    for stage, rows in layertable.folds(document).items():
        wholes = {measure: areas.whole(document, rows, measure, stage) for measure in MEASURES}
        found[stage] = {measure: _parts(whole, rows) for measure, whole in wholes.items() if whole is not None}
    return found


def _parts(whole: areas.Whole, rows: Mapping[str, layertable.ModuleRow]) -> dict[str, Any]:
    parts: dict[str, list[Any]] = {}
    for area in areas.parts_of(whole.root):
        pattern = pattern_of(area.path) if area.module else f"#{area.name}"
        part = parts.setdefault(pattern, [pattern, name_of(pattern, area), area.role, 0.0, 0])
        part[3] += area.own
        part[4] += rows[area.path].members if area.path in rows else 1
    listed = sorted(parts.values(), key=lambda part: -part[3])
    return {"total": whole.root.total, "unknown": whole.unknown, "parts": listed}


def pattern_of(path: str) -> str:
    """The path with ``*`` for every number of a block: what modules at the same place of different blocks share."""
    return re.sub(r"(?<![^.])\d+(?=\.|$)", "*", path)


def name_of(pattern: str, area: areas.Area) -> str:
    """What a part is called in another model too, with a word for own work beside that of modules inside."""
    if not area.module:
        return area.name
    own = module_name(pattern)
    return f"{own}{OWN_WORK}" if area.children else own


def module_name(pattern: str) -> str:
    """The last name of a module's path, in the words that models of other architectures share: a numbered part of a list is a block, and
    attention and MLP go by many names."""
    names = [part for part in pattern.split(".") if part]
    if not names:
        return "whole model"
    if names[-1] == "*":
        return "block"
    return "attention" if ATTENTION.match(names[-1]) else "mlp" if FEED_FORWARD.match(names[-1]) else names[-1]


def is_made(run: Run) -> bool:
    """Whether it has an extract of this version."""
    return hasattr(run, "extract") and run.extract.version == VERSION


def with_extracts(runs: Iterable[Run], within: float | None = None) -> list[Run]:
    """``runs`` with ``extract`` where they have a document. Extracts that are missing or old are made and stored: all of them, or with
    ``within`` those for which there is time, in seconds; always at least one."""
    listed = list(runs)
    lacking = [run for run in listed if not is_made(run)]
    made: list[RunExtract] = []
    begin = since = monotonic()
    for run in lacking:
        # One document at a time: twenty of deep models are gigabytes of objects. No open cursor either, beside which SQLite may not write.
        stored = RunDocument.objects.filter(run=run).first()
        if stored is not None:
            made.append(RunExtract(run=run, version=VERSION, data=_extract_or_part(stored.data)))
        if monotonic() - since > KEEP_AFTER_S:
            # What was made stays made when the server is stopped meanwhile: the next request goes on from there.
            made, since = _kept(made), monotonic()
        if within is not None and monotonic() - begin > within:
            break
    _kept(made)
    return listed


def _extract_or_part(document: Mapping[str, Any]) -> dict[str, Any]:
    """The extract; of a document whose tables cannot be read, all but its layers, so that nothing tries it again and again."""
    try:
        return extract_of(document)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        logger.exception("The layers of a run document cannot be read")
        return {key: value for key, value in document.items() if key not in LEFT_OUT} | {"roles": {}}


def make_missing(*, most: int = 1) -> int:
    """Extracts of up to ``most`` finished runs that have none of this version, the newest first: workers do it when they have nothing
    to measure, so that whoever compares older runs need not wait for it. Returns how many runs there were."""
    lacking = Run.objects.kept().filter(state="done", document__isnull=False).exclude(extract__version=VERSION)
    return len(with_extracts(lacking.select_related("extract").order_by("-finished", "-pk")[:most]))


def _kept(made: list[RunExtract]) -> list[RunExtract]:
    """Store ``made``; returns the empty list to go on with."""
    if made:
        RunExtract.objects.bulk_create(
            made, update_conflicts=True, unique_fields=["run"], update_fields=["version", "data"]
        )
    return []
