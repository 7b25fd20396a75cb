"""What the container says of itself, as the portal reads it."""

from __future__ import annotations

import pytest

from profiling.remote.request import Answer as Asked
from profiling.remote.served import read_served
from serving import answers
from serving.engine import Answer, Profile

ABOUT = {"model": "tiny", "device": "cpu"}
#: Received at 0; the first token after 40 ms, then one every 20 ms, of which the last ends the answer.
ONE = Answer("a b", "stop", 3, 0, 5_000_000, 10_000_000, (20_000_000, 40_000_000, 60_000_000, 80_000_000))


def test_why_there_is_no_profile_reaches_the_portal():
    reason = "The profile does not fit into 10 bytes, even without its layers."
    ours = answers.own(ONE, ABOUT, Profile(None, reason), 10**6)
    found = read_served(Asked(sent_ns=0, ours=ours))
    assert found.document is None
    assert "no layers: the profile does not fit into 10 bytes, even without its layers." in found.note


def test_the_end_of_an_answer_is_the_same_token_by_both_clocks():
    """The token that ended it has no text, so the last text was here 20 ms before; the network takes 3 ms each way."""
    ms = 1_000_000
    here = Asked(sent_ns=0, first_token_ns=46 * ms, last_token_ns=66 * ms, finish_ns=86 * ms)
    here.ours = answers.own(ONE, ABOUT, None, 10**6)
    rows = {figure: rest for figure, *rest in read_served(here).clocks["rows"]}
    assert rows["ttft"] == [0.046, 0.04, pytest.approx(0.006)]
    assert rows["e2e"] == [0.086, 0.08, pytest.approx(0.006)]
