"""Holding the lease of a row while an engine works for it: renewed from inside the engine's wait, and given up when the row is no longer ours."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError, close_old_connections

logger = logging.getLogger(__name__)

#: Seconds between looks at the row, and between writes of progress that is not news.
LOOK_S = 0.5
PROGRESS_S = 1.0


class LeaseWatch:
    """``should_stop`` is asked at least four times a second. ``reason`` is ``""`` while the work goes on, then ``cancelled``, ``shutdown`` or
    ``lost`` (the row is no longer this worker's).

    A kind of row has its own :meth:`cancel_wanted` and :meth:`renew`. Without the database the work goes on for as long as the lease lasts:
    then another worker may have it.
    """

    def __init__(self, name: str, shutdown: threading.Event) -> None:
        self.name, self.shutdown = name, shutdown
        self.reason = ""
        self._looked = self._reported = 0.0
        self._held = time.monotonic()

    def cancel_wanted(self) -> bool | None:
        """Whether the row asks to stop; None when it is no longer ours."""
        raise NotImplementedError

    def renew(self) -> bool:
        """Renew the lease; false when it is no longer ours."""
        raise NotImplementedError

    def should_stop(self) -> bool:
        """Look at the row now and then; true once the work must end early."""
        if not self.reason and self.shutdown.is_set():
            self.reason = "shutdown"
        now = time.monotonic()
        if self.reason or now - self._looked < LOOK_S:
            return bool(self.reason)
        self._looked = now
        self.write(lambda: self._look(now))
        return bool(self.reason)

    def _look(self, now: float) -> bool | None:
        """What :meth:`write` makes of it: true: held anew, false: lost, None: nothing was written."""
        wanted = self.cancel_wanted()
        if wanted is None:
            return False
        if wanted:
            self.reason = "cancelled"
            return None
        return self.renew() if now - self._held > settings.RUN_LEASE_S / 4 else None

    def may_report(self, *, at_once: bool = False) -> bool:
        """Whether progress is to be written now; ``at_once``: it is news."""
        now = time.monotonic()
        if self.reason or (not at_once and now - self._reported < PROGRESS_S):
            return False
        self._reported = now
        return True

    def write(self, what: Callable[[], bool | None]) -> DatabaseError | None:
        """``what`` writes to the row and says whether it is still ours (None: it wrote nothing). Returns why it could not, if so."""
        try:
            held = what()
        except DatabaseError as error:
            logger.warning("%s: the database does not answer: %s", self.name, error)
            close_old_connections()
            if time.monotonic() - self._held > settings.RUN_LEASE_S:
                self.reason = "lost"
            return error
        if held:
            self._held = time.monotonic()
        elif held is False:
            self.reason = "lost"
        return None
