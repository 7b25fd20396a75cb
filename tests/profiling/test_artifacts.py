"""Files of a measurement: valid whatever their size, without anything of the machine, and taken only from where they belong."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path

import pytest

pytest.importorskip("torch")

from profiling import artifacts
from profiling.chrome_trace import as_text, cleaned
from profiling.client import EngineChild
from profiling.measure import measure
from profiling.processes import measure_in_processes
from profiling.protocol import Protocol
from profiling.spec import SpecError
from tests.profiling import tiny


@pytest.fixture(scope="module")
def taken() -> tuple[dict, dict[str, bytes]]:
    """(document, files) of a measurement in two real processes."""
    files: dict[str, bytes] = {}
    spec = tiny.request(iterations=1)["spec"] | {"artifacts": ["memory", "trace"]}
    document = measure_in_processes(
        spec,
        Protocol(processes=2),
        on_artifact=lambda kind, data, facts: files.setdefault(kind, data),
        timeout_s=120,
    )
    return document, files


def opened(data: bytes) -> dict:
    return json.loads(gzip.decompress(data))


def test_a_measurement_leaves_the_files_that_were_asked_for(taken):
    document, files = taken
    assert set(files) == {"trace", "memory"}
    for kind, data in files.items():
        facts = document["artifacts"][kind]
        assert facts["stored_bytes"] == len(data)
        assert facts["bytes"] == len(gzip.decompress(data))
        assert facts["cut"] is None
    names = [event["name"] for event in opened(files["trace"])["traceEvents"]]
    assert names.count("stage: prefill") == 1
    assert names.count("stage: decode") == 4
    assert names.count("module: model.layers.1.mlp.down_proj") == 5
    assert "aten::scaled_dot_product_attention" in names


def test_nothing_of_the_machine_is_in_them(taken):
    _, files = taken
    root = str(Path(__file__).resolve().parents[2])
    for data in files.values():
        text = gzip.decompress(data).decode()
        for secret in (
            socket.gethostname(),
            root,
            os.path.expanduser("~"),
            "/tmp",
            "host_name",
            "trace_id",
            "Concrete",
        ):
            assert f'"{secret}' not in text, secret
            assert len(secret) < 5 or secret not in text, secret
        assert b"artifact-" not in data[:64], "the name of a file in the header of gzip"


def test_what_torch_writes_beside_the_events_stays_behind():
    event = {
        "ph": "X",
        "cat": "cpu_op",
        "name": "aten::open /home/someone/secret.txt",
        "pid": 4242,
        "tid": "thread 4242 (python of someone)",
        "ts": 5e12,
        "dur": 2.0,
        "args": {
            "Input Dims": [[1, 2]],
            "Concrete Inputs": ["a prompt"],
            "Call stack": "/home/someone/x.py",
            "Addr": 1,
        },
    }
    text = json.dumps(cleaned([event, {"ph": "M", "name": "process_name", "args": {"name": "someone"}, "ts": 1.0}]))
    for secret in ("someone", "4242", "prompt", "Addr", "5000000000000"):
        assert secret not in text
    assert '"Input Dims": [[1, 2]]' in text


def test_a_trace_that_is_too_long_is_cut_and_stays_json(monkeypatch):
    event = {"ph": "X", "cat": "cpu_op", "pid": 1, "tid": 1, "dur": 1.0}
    events = cleaned([event | {"name": f"aten::{os.urandom(8).hex()}", "ts": float(n)} for n in range(5000)])
    whole = sum(map(len, as_text(events, {}, 10**9, [])))
    monkeypatch.setattr(artifacts, "STORED_LIMIT", 20_000)
    notes: list[str | None] = []
    path, facts = artifacts.pack("trace", lambda limit: as_text(events, {"model": "Tiny"}, limit, notes))
    assert facts["stored_bytes"] == path.stat().st_size <= 20_000
    found = json.loads(gzip.decompress(path.read_bytes()))
    assert 100 < len(found["traceEvents"]) < 5000
    assert found["traceEvents"] == events[: len(found["traceEvents"])]
    assert found["otherData"]["cut"] == notes[-1]
    assert f"of {len(events):,} events" in notes[-1]
    assert facts["bytes"] < whole


def test_a_table_of_allocations_that_is_too_long_is_cut_and_stays_json():
    table = {"columns": ["t_ns", "bytes"], "rows": [[n, 64] for n in range(1000)]}
    notes: list[str | None] = []
    text = "".join(artifacts.memory_text(table, {}, {"segments": ["x" * 4000]}, 2000, notes))
    found = json.loads(text)
    assert found["rows"] == table["rows"][: len(found["rows"])]
    assert found["snapshot"] is None
    assert "snapshot of torch is left out" in found["cut"]
    assert "of 1,000 allocations" in found["cut"]


def test_only_a_file_of_the_childs_own_folder_is_taken(tmp_path):
    own = tmp_path / "child"
    (own / "sub").mkdir(parents=True)
    outside = tmp_path / "outside" / "trace.json.gz"
    outside.parent.mkdir()
    outside.write_bytes(b"secret")
    path, facts = artifacts.pack("trace", lambda limit: iter(["{}"]))
    data = path.read_bytes()
    inside = own / "sub" / "trace.json.gz"
    inside.write_bytes(data)
    assert artifacts.read_packed(inside, facts, own) == data
    with pytest.raises(ValueError, match="not in the folder"):
        artifacts.read_packed(outside, facts, own)
    with pytest.raises(ValueError, match="not in the folder"):
        artifacts.read_packed(own / "sub" / ".." / ".." / "outside" / "trace.json.gz", facts, own)
    (own / "sub" / "link").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic"):
        artifacts.read_packed(own / "sub" / "link", facts, own)
    with pytest.raises(ValueError, match="another size"):
        artifacts.read_packed(inside, facts | {"stored_bytes": 3}, own)
    inside.write_bytes(data[:-1] + b"x")
    with pytest.raises(ValueError, match="not the one"):
        artifacts.read_packed(inside, facts, own)


def test_a_child_whose_file_is_gone_still_answers():
    said: list[str] = []
    with EngineChild() as child:
        child._folder, own = "/nowhere", child._folder
        try:
            spec = tiny.request(iterations=1)["spec"] | {"artifacts": ["trace"]}
            document = child.request(
                "measure",
                {"spec": spec},
                on_log=lambda level, message: said.append(message),
                on_artifact=lambda *file: pytest.fail("a file from another folder"),
            )
        finally:
            child._folder = own
    assert document["metrics"]["ttft"]["value"] > 0
    assert any("trace.json.gz was lost" in line for line in said)


def test_unknown_kinds_are_refused_before_anything_is_measured():
    for wrong in (["gpu"], "trace", [None], 3):
        with pytest.raises(SpecError):
            measure(tiny.MODEL, tiny.HOST, tiny.WORKLOAD, artifacts=wrong)


def test_a_snapshot_of_cuda_becomes_plain_json_without_frames_and_addresses():
    frame = {"filename": "/home/someone/model.py", "line": 1, "name": "forward"}
    block = {"size": 512, "requested_size": 500, "state": "active_allocated", "address": 7_000_512, "frames": [frame]}
    segment = {"device": 0, "address": 7_000_000, "total_size": 1024, "segment_type": "small", "blocks": [block]}
    entry = {"action": "alloc", "addr": 7_000_512, "size": 512, "stream": 0, "time_us": 5, "frames": [frame]}
    found = artifacts.plain_snapshot({"segments": [segment], "device_traces": [[entry]], "allocator_settings": {}})
    assert "someone" not in json.dumps(found)
    assert found["segments"][0]["address"] == 0
    assert found["segments"][0]["blocks"][0] == {
        "size": 512,
        "requested_size": 500,
        "state": "active_allocated",
        "address": 512,
        "frames": [],
    }
    assert found["device_traces"][0][0] == {
        "action": "alloc",
        "size": 512,
        "stream": 0,
        "time_us": 5,
        "frames": [],
        "addr": 512,
    }


def test_memory_of_a_run_is_told_apart_and_agrees_with_the_estimate(taken):
    document, _ = taken
    table = document["memory"]["breakdown"]
    rows = {(row[0], row[1]): dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    for part in ("weights", "cache", "activations"):
        row = rows["prefill", part]
        assert row["measured_bytes"] == pytest.approx(row["estimated_bytes"], rel=0.01), part
        assert abs(row["error_pct"]) < 1
    # 2 layers, keys and values, 2 heads of 8 numbers of 4 bytes, 14 of 15 positions.
    assert rows["decode", "cache"]["measured_bytes"] == 2 * 2 * 2 * 8 * 4 * 14
    assert rows["load", "cache"]["measured_bytes"] == 0
    assert rows["warmup", "activations"]["measured_bytes"] is None
    assert rows["prefill", "other"]["measured_bytes"] > 0
    assert rows["prefill", "other"]["estimated_bytes"] is None


def test_the_command_line_refuses_a_place_that_is_none_and_says_a_full_disk(tmp_path):
    from argparse import Namespace

    from profiling.cli.measure import files_of, write_file

    good = Namespace(file_trace=str(tmp_path / "a.json"), file_memory=None)
    assert files_of(good) == {"trace": tmp_path / "a.json"}
    for wrong in (tmp_path, tmp_path / "none" / "a.json"):
        with pytest.raises(SpecError, match="cannot be written"):
            files_of(Namespace(file_trace=None, file_memory=str(wrong)))
    data = gzip.compress(b"{}")
    assert write_file(tmp_path / "a.json", data) is None
    assert (tmp_path / "a.json").read_bytes() == b"{}"
    assert write_file(tmp_path / "a.json.gz", data) is None
    assert (tmp_path / "a.json.gz").read_bytes() == data
    assert "could not be written" in (write_file(Path("/dev/full"), data) or "")
