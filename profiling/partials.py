"""What is known of a measurement while it goes on: kept by the parent in case this process is killed before it has finished."""

from __future__ import annotations

import time
from typing import Any

from profiling import measured
from profiling.session import PARTIAL_S, Session

#: Partial results have at most so many rows of samples: the latest.
PARTIAL_ROWS = 4000


def partial(session: Session) -> dict[str, Any] | None:
    """What is known by now as an incomplete run document; None before the model is loaded."""
    if session.memory is None:
        return None
    samples = measured.samples_table(session)
    done, wanted = len(session.timed), session.workload.iterations
    message = f"The run ended early: {done} of {wanted} iterations were measured, and nothing after them."
    if session.loading:
        message = "The run ended early, during its load: the latest requests that were kept are below."
    return session.facts | {
        "workload": session.workload.to_json(),
        "duration_s": time.monotonic() - session.began,
        "metrics": measured.metrics(session, session.memory),
        "memory": {"phases": session.memory.phases()},
        "samples": samples | {"rows": samples["rows"][-PARTIAL_ROWS:]},
        "warnings": [*session.warnings, {"code": "incomplete", "message": message}],
        **session.loading,
    }


def keep_partial(session: Session, *, at_once: bool = False) -> None:
    """Hand on what is known by now, between passes: it is kept if this process is killed before it has finished."""
    send = getattr(session.report, "partial", None)
    now = time.monotonic()
    if send is not None and (at_once or now - session.sent >= PARTIAL_S):
        session.sent = now
        send(partial(session))
