"""A load of requests in the portal: what is refused, what a run keeps, what its page and exports show."""

from __future__ import annotations

from llmcompare.runs.exportrows import run_rows
from llmcompare.runs.loadtable import load_table
from llmcompare.runs.tiles import metric_tiles
from profiling.load import Load, describe
from profiling.load_metrics import load_metrics, met
from profiling.server import COLUMNS, Served

LOAD = Load(mode="poisson", rate=2.0, requests=3, ttft_s=0.5)
SERVED = [
    Served(0, 0, 1_000_000, 201_000_000, 401_000_000, 8, 3, 1),
    Served(1, 100_000_000, 401_000_000, 801_000_000, 801_000_000, 9, 1, 1),
    Served(2, 300_000_000, None, None, None, 7, 3, None),
]


def document() -> dict:
    about = {"scheduling": "first come, first served", "batch_size": 1, "due": 3, "served": 2, "queue_grows": None}
    return {
        "kind": "measure",
        "load": describe(LOAD) | about,
        "requests": {
            "columns": [*COLUMNS, "within_objectives"],
            "rows": [[*one.row(), met(one, LOAD)] for one in SERVED],
        },
        "metrics": load_metrics(SERVED, LOAD),
    }


def test_the_page_shows_what_was_sent_and_what_came_of_it():
    table = load_table(document())
    assert "Poisson" in table["what"]
    assert "500" in table["objectives"][0]
    assert (table["served"], table["due"]) == ("2", "3")
    first, second, third = table["rows"]
    assert first["ttft"].startswith("201")
    assert first["tpot"].startswith("100")
    assert first["within"] == "yes"
    assert (second["tpot"], second["within"]) == ("–", "no")
    assert (third["queue"], third["within"]) == ("not served", "no")
    share = next(row for row in table["metrics"] if row["title"].startswith("Share"))
    assert share["value"].startswith("33")
    assert len(table["figure"]["data"]) == 3
    assert len(table["figure"]["data"][0]["x"]) == 2, "the one that was not served has no latency"


def test_a_run_without_a_load_has_no_such_part():
    assert load_table({"kind": "measure", "metrics": {}}) is None


def test_a_load_of_which_nothing_was_served_has_a_section_without_figures():
    empty = document() | {"metrics": {}, "requests": {"columns": list(COLUMNS), "rows": []}}
    table = load_table(empty)
    assert (table["metrics"], table["figure"], table["rows"]) == ([], None, [])


def test_goodput_is_a_tile_and_latencies_under_load_stand_beside_their_load():
    keys = {tile["key"] for tile in metric_tiles(document())}
    assert "request_goodput" in keys
    assert "request_ttft" not in keys


def test_every_request_is_in_the_long_export():
    rows = [row for row in run_rows(document()) if row[0] == "request"]
    ends = {row[2]: row[4] for row in rows if row[3] == "end_ns"}
    assert ends == {"0": 401_000_000, "1": 801_000_000, "2": None}
    assert next(row for row in rows if row[3] == "end_ns")[5:7] == ("ns", "measured")
    assert any(row[0] == "load" and row[3] == "mode" and row[4] == "poisson" for row in run_rows(document()))
