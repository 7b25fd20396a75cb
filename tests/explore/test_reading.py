"""Models that only read: what has no meaning for them is unknown, on the page as in every export."""

from __future__ import annotations

import csv
import io

from tests.explore.conftest import make
from tests.factories import make_model
from tests.profiling.tiny import BERT


def test_a_model_that_generates_nothing_has_no_price_of_a_token(owner_client, owner, device):
    model = make_model(slug="reader", kind="encoder", config=BERT, max_context=64)
    make(owner, model)
    query = {"model": "reader", "hardware": "small-device", "batches": "1,4", "lengths": "8,16", "input_tokens": "16"}
    query |= {"price.small-device": "2", "power.small-device": "300"}
    metrics = owner_client.get("/explore.json", query).json()["series"][0]["metrics"]
    assert metrics["encode_time"]["value"] > 0
    assert "cost_per_million_tokens" not in metrics
    text = owner_client.get("/explore.csv", query).getvalue().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert all(row["e2e_s"] for row in rows)
    assert {(row["cost"], row["energy"]) for row in rows} == {("", "")}
