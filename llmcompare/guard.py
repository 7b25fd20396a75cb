"""Runs a module as ``python -m`` would, and sees to it that the process never outlives the supervisor, however that ends.

``python -m llmcompare.guard LIFELINE GRACE MODULE [argument …]``: LIFELINE is the reading end of a pipe whose writing end only the
supervisor holds. When the supervisor is gone, even by kill -9, reading returns: terminate, and after GRACE seconds kill everything
in this session. On Linux the kernel sends the first signal (PR_SET_PDEATHSIG), which works while Python is busy elsewhere.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int = signal.SIGTERM) -> bool:
    """Have the kernel send the signal when the parent ends. Linux only; False elsewhere. Not inherited by forked children."""
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        return ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


def _watch(lifeline: int, grace: float, signalled: bool) -> None:
    os.read(lifeline, 1)
    if not signalled:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    lifeline, grace, module = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    os.set_inheritable(lifeline, False)
    signalled = die_with_parent()
    threading.Thread(target=_watch, args=(lifeline, grace, signalled), name="lifeline", daemon=True).start()
    sys.argv[:] = sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
