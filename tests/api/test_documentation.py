"""The written documentation; the interactive one is in ``tests/browser/test_api_documentation.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.test_schema import OPERATIONS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_every_operation_is_in_the_guide(operation):
    assert operation in GUIDE.read_text()
