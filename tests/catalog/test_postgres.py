"""The catalogues on PostgreSQL: its JSON type rewrites numbers, and that must not look like an edit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("load_catalogue"); call_command("load_catalogue")
from hardware.filters import HardwareFilter
from hardware.models import Hardware
found = [device.name for device in HardwareFilter({"sort": "peak"}, queryset=Hardware.objects.all()).qs]
print("first", found[0], "last", found[-1])
"""


@pytest.mark.slow
def test_loading_twice_changes_nothing_and_unknown_peaks_come_last(postgres_database):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": postgres_database, "DJANGO_SETTINGS_MODULE": "llmcompare.settings"},
    )
    assert done.returncode == 0, done.stderr
    first, second, order = done.stdout.splitlines()
    assert "hardware 89 new" in first
    assert "hardware 0 new, 0 updated, 89 unchanged; models 0 new, 0 updated, 36 unchanged" in second
    assert order == "first Instinct MI355X 288GB last Snapdragon X Elite (NPU)"
