"""gunicorn's settings for ``manage.py up``. Address and number of processes come from the command line."""

from __future__ import annotations

import logging
import signal

from llmcompare.guard import die_with_parent
from profiling.client import EngineError, warm_child

wsgi_app = "llmcompare.wsgi:application"
worker_class = "gthread"
threads = 8
timeout = 60
graceful_timeout = 4
keepalive = 5
loglevel = "warning"
accesslog = None  # addresses carry share tokens
logger_class = "llmcompare.sharing.weblog.TokenlessLogger"  # so do complaints about them
control_socket_disable = True
worker_tmp_dir = None


def post_fork(server, worker) -> None:
    """A worker ends with its master, also when that is killed; elsewhere than on Linux it notices within a second by itself."""
    die_with_parent(signal.SIGTERM)


def post_worker_init(worker) -> None:
    """The first preview would wait for the engine's imports: they start now, beside the first pages."""
    try:
        warm_child().start()
    except EngineError as error:
        # A portal without engine still serves every page; previews say what is missing.
        logging.getLogger(__name__).warning("No engine for previews: %s", error)
