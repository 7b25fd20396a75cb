"""Verdicts on the parts of measured runs, where several processes timed their modules: ``profiling.verdicts``, part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmcompare.runs.compare import Column
from llmcompare.runs.counterparts import match_of, of_role, part_key
from llmcompare.runs.extract import pattern_of
from profiling.judgements import verdicts_on_parts
from profiling.verdicts import Verdict

#: The key of everything together.
WHOLE = "all"


def part_verdicts(
    columns: Sequence[Column], stage: str, wholes: Sequence[Mapping[str, Any] | None], by_module: bool, baseline: int
) -> dict[str, tuple[Verdict | None, ...]]:
    """Key of a part, of a role and :data:`WHOLE` → the verdict of each column against the baseline; None for the baseline itself and where
    either has no times of processes. ``wholes``: what the extracts say of the measured times of ``stage``."""
    groups = [_groups(column, stage, whole, by_module) for column, whole in zip(columns, wholes, strict=True)]
    found: dict[str, list[Verdict | None]] = {}
    for at, column in enumerate(columns):
        if at == baseline:
            continue
        for mine, base in zip(groups[at], groups[baseline], strict=True):
            judged = verdicts_on_parts(stage, columns[baseline].document, column.document, (base, mine))
            for key, verdict in judged.items():
                found.setdefault(key, [None] * len(columns))[at] = verdict
    return {key: tuple(verdicts) for key, verdicts in found.items()}


def _groups(
    column: Column, stage: str, whole: Mapping[str, Any] | None, by_module: bool
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """path of every timed module → its part, → its role, → the whole."""
    parts = {str(pattern): (str(name), str(role)) for pattern, name, role, *_ in (whole or {}).get("parts") or ()}
    timed = ((column.document.get("module_times") or {}).get(stage) or {}).get("paths") or ()
    known = {str(path): pattern for path in timed if (pattern := pattern_of(str(path))) in parts}
    return (
        {path: match_of(part_key(pattern, *parts[pattern], by_module)) for path, pattern in known.items()},
        {path: of_role(parts[pattern][1]) for path, pattern in known.items()},
        dict.fromkeys(known, WHOLE),
    )
