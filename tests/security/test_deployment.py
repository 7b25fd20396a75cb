"""Django's own check of a deployment has nothing to say when the portal is behind https."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_deployment_check_is_clean(tmp_path):
    env = os.environ | {"LLMCOMPARE_URL": "https://portal.example.org", "LLMCOMPARE_DATA": str(tmp_path)}
    env.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)  # set for this process alone by a browser of other tests
    result = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
