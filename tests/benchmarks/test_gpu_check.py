"""The script that checks a GPU machine: one check that fails costs the others nothing, and what was not done is said."""

from __future__ import annotations

from benchmarks.gpu_check import Checks
from profiling.failures import EngineError


def test_each_check_ends_as_what_it_was(capsys):
    checks = Checks(seconds=60.0)

    def refused():
        raise EngineError(phase="load", kind="memory", message="Too big.")

    checks.run("good", lambda: (True, "1 ms"))
    checks.run("off", lambda: (False, "9 ms"))
    checks.run("engine", refused)
    checks.run("fault", lambda: 1 / 0)
    checks.seconds = -1.0
    checks.run("late", lambda: (True, "never"))
    assert [row["state"] for row in checks.rows] == ["ok", "differs", "failed", "failed", "not done"]
    assert "Too big." in checks.rows[2]["found"]
    assert "ZeroDivisionError" in checks.rows[3]["found"]
    assert "never" not in capsys.readouterr().out
