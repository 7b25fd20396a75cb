"""The web server's own log without the tokens of shared links; apart from ``logs.py``, so that workers do not load gunicorn."""

from __future__ import annotations

from gunicorn.glogging import Logger

from llmcompare.sharing.logs import HideTokens


class TokenlessLogger(Logger):
    """Gunicorn's logger for ``--logger-class``: its access and error logs have handlers of their own, which Django's set-up does
    not reach."""

    def setup(self, cfg) -> None:
        super().setup(cfg)
        for log in (self.access_log, self.error_log):
            for handler in log.handlers:
                handler.addFilter(HideTokens())
