from __future__ import annotations

import pytest

from tests.bootstrap.tiny import FAKE_DJANGO, Project, make_wheel


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    fake = {"django/__init__.py": "", "django/core/__init__.py": "", "django/core/management.py": FAKE_DJANGO}
    make_wheel(folder, "django", "1.0", fake)
    make_wheel(folder, "django", "2.0", fake)
    make_wheel(folder, "tiny_dev", "1.0", {"tiny_dev.py": ""})
    make_wheel(folder, "tiny_weights", "1.0", {"tiny_weights.py": ""})
    # `manage.py test` becomes `python -m pytest`; this one shows what it was asked.
    make_wheel(folder, "pytest", "1.0", {"pytest.py": "import sys\nprint('PYTEST', sys.argv[1:])\nsys.exit(5)\n"})
    return folder


@pytest.fixture
def project(tmp_path, wheels):
    return Project(tmp_path / "project", wheels)
