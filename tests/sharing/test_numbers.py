"""A shared run shows a visitor the numbers of the JSON behind the same link: every comparison that the run's own page has to pass, again."""

from __future__ import annotations

import json

import pytest

from llmcompare.sharing.services import create_link
from tests import factories
from tests.run_page import documents
from tests.run_page.test_numbers import (  # noqa: F401  (the same tests, of what is shown here)
    STORED,
    Page,
    test_areas,
    test_areas_of_memory_are_the_documents_parts,
    test_every_chart_on_the_page_is_covered_here,
    test_graphs_side_by_side_have_one_scale,
    test_measured_points_of_modules_are_their_own_flops_over_their_own_time,
    test_memory_bars,
    test_pairs_of_estimate_and_measurement,
    test_roofline_of_modules_holds_every_flop_once,
    test_roofline_of_stages,
    test_roofline_points_and_roofs,
    test_samples_and_their_distribution,
    test_the_layer_graph,
    test_tiles_and_stages,
)


@pytest.fixture(params=["made by hand", "measure_smollm2", "estimate_llama3_70b_h100"])
def shown(request, owner, anonymous_client):
    """(fetch a view of a shared run, the JSON of the same link), as somebody without an account sees both."""
    name = request.param
    document = documents.measured() if name == "made by hand" else json.loads((STORED / f"{name}.json").read_text())
    run = factories.make_run(owner, document=document, kind=document["kind"])
    _, token = create_link(owner=owner, runs=[run])

    def view(query: str = "") -> Page:
        answer = anonymous_client.get(f"/s/{token}/{query}")
        assert answer.status_code == 200
        return Page(answer.content.decode())

    return view, json.loads(anonymous_client.get(f"/s/{token}/export.json").content)
