"""Loaded before Django's settings (``-p tests.environment``): every test run has a data folder of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Each pytest-xdist worker inherits the main process's folder; only the main process makes one.
# Scratch that oneDNN takes with AMX is not predicted: memory is compared with the kernels that the predictions are of, on every processor.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

if "PYTEST_XDIST_WORKER" not in os.environ:
    folder = tempfile.mkdtemp(prefix="llmcompare-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["LLMCOMPARE_DATA"] = folder
    for name in ("DATABASE_URL", "BROKER_URL", "LLMCOMPARE_URL", "LLMCOMPARE_SECRET_KEY"):
        os.environ.pop(name, None)
