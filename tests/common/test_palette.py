"""One palette: legible on its pages, and every two colours of a chart stay apart for people who see fewer of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmcompare.common import palette
from llmcompare.runs.modelroles import ROLES

ROOT = Path(__file__).resolve().parents[2]
#: CIE 1976 ΔE of the two most alike colours of a family: what was reached with eight hues that can also be read as text.
APART = {"bound": 20, "role": 14, "part": 14, "series": 14, "origin": 20}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("family", palette.FAMILIES)
def test_colours_are_legible_and_apart(family, theme):
    colours = [pair[theme] for pair in palette.FAMILIES[family].values()]
    for colour in colours:
        for background in palette.BACKGROUNDS[theme]:
            assert palette.contrast(colour, background) >= 4.5, colour
        assert palette.contrast(colour, palette.AROUND["--on-tone"][theme]) >= 4.5, colour
    assert palette.closest(colours) >= APART[family]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_a_measured_peak_is_apart_from_the_kinds_of_memory_that_it_stands_below(theme):
    parts = [pair[theme] for pair in palette.FAMILIES["part"].values()]
    assert palette.closest([*parts, palette.FAMILIES["origin"]["measured"][theme]]) >= APART["part"]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["--tone-roof", "--tone-roof-other", "--tone-muted", "--graph-edge"])
def test_lines_and_edges_have_the_contrast_of_graphics(name, theme):
    for background in palette.BACKGROUNDS[theme]:
        assert palette.contrast(palette.AROUND[name][theme], background) >= 3


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_names_in_the_graph_are_legible_on_every_heat(theme):
    for name in ("--heat-low", "--heat-high", "--graph-group"):
        assert palette.contrast(palette.AROUND["--graph-text"][theme], palette.AROUND[name][theme]) >= 4.5


def test_the_simulation_takes_red_and_green_away_and_leaves_grey_alone():
    """Published matrices: a pair that only deuteranopes and protanopes confuse, and one that nobody does."""
    # The old palette's blue and violet, which this check found to be one colour for many.
    assert palette.difference("#1d6fb8", "#7a56b3", "normal") > 30
    assert min(palette.difference("#1d6fb8", "#7a56b3", v) for v in ("protanopia", "deuteranopia")) < 7
    for vision in palette.VISION:
        assert palette.difference("#808080", "#808080", vision) == 0
        lightness, a, b = palette.seen("#808080", vision)
        assert (lightness, a, b) == (pytest.approx(53.6, abs=0.2), pytest.approx(0, abs=0.2), pytest.approx(0, abs=0.2))


def test_contrast_is_that_of_wcag():
    assert palette.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert palette.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_the_stylesheet_is_what_the_module_writes():
    assert (ROOT / "static" / "palette.css").read_text() == palette.stylesheet(), (
        "python -m llmcompare.common.palette > static/palette.css"
    )


def test_no_other_stylesheet_or_script_names_a_colour_of_its_own_for_a_meaning():
    for path in (*(ROOT / "static").glob("*.css"), *(ROOT / "static").glob("*.js")):
        if path.name != "palette.css":
            assert not re.search(r"--tone-[\w-]+:", path.read_text()), path.name


def test_every_tone_that_pages_use_is_in_the_palette():
    known = {f"--tone-{meaning}" for family in palette.FAMILIES.values() for meaning in family} | set(palette.AROUND)
    files = [*(ROOT / "static").glob("*.css"), *(ROOT / "static").glob("*.js")]
    used = {name for path in files for name in re.findall(r"--tone-[\w-]+[\w]", path.read_text())}
    assert used - known == set()


def test_every_role_of_a_module_has_a_colour():
    assert {f"role-{role}" for role in ROLES} == set(palette.FAMILIES["role"])


def test_runs_after_the_eighth_begin_again():
    assert palette.series(0) == palette.series(8) == "series-0"
