"""What the pages load: our own host only, unchanged vendored files, nothing inline."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.vendor_assets import PACKAGES, VENDOR, sums, without_source_map

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
OWN_FILES = sorted(
    p for p in (ROOT / "static").rglob("*") if p.suffix in (".js", ".css", ".svg") and VENDOR not in p.parents
)

# Namespaces are names, not addresses that anybody loads.
NAMESPACE = "http://www.w3.org/"
OTHER_HOST = re.compile(r"""(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}""", re.IGNORECASE)


def test_vendored_files_are_what_was_recorded():
    assert sums(VENDOR) == (VENDOR / "SHA256SUMS").read_text()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.npm)
def test_each_package_is_there_with_its_licence(package):
    folder = VENDOR / f"{package.folder}-{package.version}"
    assert {Path(name).name for name in package.files} <= {path.name for path in folder.iterdir()}
    assert f"{package.npm} {package.version}" in (VENDOR / "LICENSES").read_text()


def test_no_vendored_file_names_a_source_map():
    assert not [p.name for p in VENDOR.rglob("*.*s") if "sourceMappingURL" in p.read_text()]
    assert without_source_map("a;\n//# sourceMappingURL=x.js.map\n") == "a;\n"


def test_rules_that_scripts_would_insert_are_files():
    plotly = (VENDOR / "plotly-basic-4.1.1" / "plotly.css").read_text()
    assert ".js-plotly-plot .plotly .modebar" in plotly
    assert ".plotly-notifier" in plotly
    assert plotly.count("{") == plotly.count("}") > 40
    assert (
        ".__________cytoscape_container { position: relative; }"
        in (VENDOR / "cytoscape-3.34.4" / "cytoscape.css").read_text()
    )


@pytest.mark.parametrize("path", TEMPLATES + OWN_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_loaded_from_another_host(path):
    text = path.read_text().replace(NAMESPACE, "")
    assert not OTHER_HOST.findall(text)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: str(p.relative_to(ROOT)))
def test_templates_have_no_inline_script_or_style(path):
    text = path.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text), "inline script"
    assert "<style" not in text
    assert not re.search(r"""\s(?:style|on[a-z]+)\s*=\s*["']""", text), "inline style or handler"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: str(p.relative_to(ROOT)))
def test_templates_name_only_static_files_that_exist(path):
    for name in re.findall(r"""\{%\s*static\s+['"]([^'"]+)['"]""", path.read_text()):
        assert (ROOT / "static" / name).is_file(), name


def test_every_icon_that_is_used_is_drawn():
    drawn = set(re.findall(r'<symbol id="([a-z]+)"', (ROOT / "static" / "icons.svg").read_text()))
    used = {name for path in TEMPLATES for name in re.findall(r'\{% icon "([a-z]+)" %\}', path.read_text())}
    assert used <= drawn


def test_plotly_offers_no_upload():
    script = (ROOT / "static" / "charts.js").read_text()
    assert "sendChartToCloud" in script
    assert "displaylogo: false" in script
    assert 'plotlyServerURL: ""' in script
