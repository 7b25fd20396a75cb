"""Verdicts on the modules of measured runs: what processes of one program differ by is no difference."""

from __future__ import annotations

import pytest

from llmcompare.runs.compare import columns_of
from llmcompare.runs.partverdicts import WHOLE, part_verdicts
from llmcompare.runs.rolediff import diff
from profiling.judgements import verdicts_on_parts
from profiling.verdicts import FASTER, NO_DIFFERENCE, NOT_COMPARABLE, SLOWER
from tests.compare.test_layers import SMOL, address
from tests.factories import make_run
from tests.run_page.documents import in_processes

UP = "mlp.up_proj"


def quiet(**how):
    made = in_processes(SMOL, **how)
    made["conditions"] = (made.get("conditions") or {}) | {"contended": False}
    return made


def runs_of(owner, *documents):
    return [make_run(owner, document=d, kind="measure") for d in documents]


def rows_of(runs):
    found = diff(columns_of(runs), "decode", "measured", 0)
    return found, {row.match: row for row in found.parts}


def test_only_the_module_that_changed_is_called_slower(owner):
    found, rows = rows_of(runs_of(owner, quiet(), quiet(factor=1.5, path_end=UP)))
    changed = [match for match, row in rows.items() if row.verdicts[1].verdict == SLOWER]
    assert changed == ["model.layers.*.mlp.up_proj"]
    assert rows[changed[0]].verdicts[0] is None, "the baseline is not judged against itself"
    assert rows[changed[0]].verdicts[1].effect_pct == pytest.approx(50, abs=1)
    others = [row.verdicts[1].verdict for match, row in rows.items() if match not in changed]
    assert set(others) == {NO_DIFFERENCE}
    assert next(row for row in found.roles if row.role == "mlp").verdicts[1].verdict in (SLOWER, NO_DIFFERENCE)


def test_what_processes_differ_by_is_no_difference(owner):
    found, rows = rows_of(runs_of(owner, quiet(), quiet(factor=1.01)))
    assert {row.verdicts[1].verdict for row in rows.values()} == {NO_DIFFERENCE}
    assert found.verdicts[1].verdict == NO_DIFFERENCE


def test_the_other_way_round_it_is_faster(owner):
    found, _ = rows_of(runs_of(owner, quiet(factor=1.4), quiet()))
    assert found.verdicts[1].verdict == FASTER


def test_one_process_is_too_few_and_the_page_says_so_once(owner, owner_client):
    runs = runs_of(owner, quiet(processes=1), quiet(processes=1, factor=2))
    _, rows = rows_of(runs)
    assert {row.verdicts[1].verdict for row in rows.values()} == {NOT_COMPARABLE}
    layers = owner_client.get(address(runs, by="measured", stage="decode")).context["layers"]
    assert sum("Too few processes" in note for note in layers["notes"]) == 1
    assert not any(cell["verdict"] for row in layers["parts"] for cell in row["cells"])
    assert any(cell["change"] for row in layers["parts"] for cell in row["cells"]), "the change itself is shown"


def test_a_busy_machine_and_other_conditions_are_not_judged(owner):
    busy = quiet(factor=2)
    busy["conditions"]["contended"] = True
    found, _ = rows_of(runs_of(owner, quiet(), busy))
    assert found.verdicts[1].verdict == NOT_COMPARABLE
    larger = quiet(factor=2)
    larger["workload"] = larger["workload"] | {"batch_size": 8}
    found, _ = rows_of(runs_of(owner, quiet(), larger))
    assert "batch size" in found.verdicts[1].reasons[0]


def test_page_and_json_say_the_same(owner, owner_client):
    runs = runs_of(owner, quiet(), quiet(factor=1.5, path_end=UP), quiet(factor=1.01))
    asked = {"by": "measured", "stage": "decode"}
    layers = owner_client.get(address(runs, **asked)).context["layers"]
    told = owner_client.get(address(runs, "runs:compare-json", **asked)).json()["layers"]
    for shown, line in zip([*layers["roles"], *layers["parts"]], [*told["roles"], *told["parts"]], strict=True):
        said = [cell["verdict"] for cell in shown["cells"]]
        assert said == [verdict["verdict"] if verdict else "" for verdict in line["verdicts"]]
        for cell in shown["cells"]:
            if cell["verdict"] == NO_DIFFERENCE:
                assert cell["bar"] is None
    assert told["verdicts"][0] is None
    page = owner_client.get(address(runs, **asked)).content.decode()
    assert 'class="layer-verdict is-slower"' in page
    assert 'class="layer-verdict is-no-difference-shown"' in page


def test_estimates_and_single_measurements_have_no_verdicts(owner):
    runs = runs_of(owner, quiet(), quiet(factor=2))
    assert diff(columns_of(runs), "decode", "time", 0).verdicts == ()
    assert diff(columns_of(runs_of(owner, SMOL, SMOL)), "decode", "measured", 0).verdicts == ()


def test_a_module_that_a_process_did_not_time_leaves_that_process_out():
    base, other = quiet(processes=4), quiet(processes=4, factor=1.5)
    times = other["module_times"]["decode"]
    at = next(n for n, path in enumerate(times["paths"]) if path.endswith(UP))
    times["exclusive_s"][0][at] = None
    paths = {path: "up" if path.endswith(UP) else "rest" for path in times["paths"]}
    found = verdicts_on_parts("decode", base, other, (paths, paths))
    assert set(found) == {"up", "rest"}
    assert found["up"].verdict == SLOWER
    assert "only 3 and 4" not in " ".join(found["up"].reasons)
    assert verdicts_on_parts("encode", base, other, (paths, paths)) == {}


def test_parts_that_one_side_lacks_have_no_verdict(owner):
    runs = runs_of(owner, quiet(), quiet(factor=2))
    columns = columns_of(runs)
    wholes = [column.document["roles"]["decode"]["measured"] for column in columns]
    lacking = wholes[1] | {"parts": [part for part in wholes[1]["parts"] if not part[0].endswith(UP)]}
    found = part_verdicts(columns, "decode", [wholes[0], lacking], True, 0)
    assert "model.layers.*.mlp.up_proj" not in found
    assert found[WHOLE][1].verdict == SLOWER
