"""``python -m serving``: serve the model that the environment names until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from profiling.spawn import SPIN_COUNT
from serving.settings import SettingError, Settings

#: After a signal, what is being answered gets so long to end.
GRACE_S = 10
#: So long the health route says why the device is broken, until the process ends: who starts containers starts one that ended anew.
BROKEN_S = 60.0


def main() -> int:
    """The exit status: 0 after a signal, 2 for a setting that cannot be used, 1 for a port that is taken, 3 for a device that broke."""
    try:
        settings = Settings.of(os.environ)
    except SettingError as error:
        print(f"llmcompare: {error}", file=sys.stderr)
        return 2
    _prepare_environment()
    import uvicorn

    from serving import models
    from serving.app import make_app
    from serving.engine import Engine

    def broke() -> None:
        timer = threading.Timer(BROKEN_S, end)
        timer.daemon = True
        timer.start()

    engine = Engine(lambda report: models.load(settings, report), settings.max_waiting, on_broken=broke)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            engine.ending = True  # those that wait are refused at once, and nobody new is let in
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        make_app(settings, engine),
        host=settings.bind,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
    print(f"llmcompare: listening on {settings.bind}, port {settings.port}", file=sys.stderr, flush=True)
    server = Server(config)

    def end(*_: object) -> None:
        server.should_exit = True

    # Before uvicorn listens to signals, and after: it sends itself the one that ended it again, which has been obeyed by then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        server.run()
    except SystemExit:  # the port is taken: uvicorn has said so
        return 1
    engine.join(2)
    if engine.broken is not None:
        return 3
    return 0 if server.started else 1


def _prepare_environment() -> None:
    """What the libraries read when they are imported: how threads wait, and that nothing is fetched."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    for name, value in (
        ("HF_HUB_OFFLINE", "1"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("KINETO_LOG_LEVEL", "99"),
    ):
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a model that is still computing has no say in it
