"""A packed run document is the same when it is unpacked, never passes its limit, and names what it had to leave out."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.remote import packed
from profiling.remote.packed import Broken, TooLarge, blocks, pack, unpack

ROOT = Path(__file__).resolve().parents[3]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def document(layers: int, noise: str = "", extra: object = None) -> dict:
    """Shaped as the engine's; ``noise`` makes rows that do not compress to nothing."""
    paths = ["", "model", "model.embed"]
    for number in range(layers):
        paths += [f"model.layers.{number}", f"model.layers.{number}.mlp", f"model.layers.{number}.mlp.experts.7"]
    rows = [["decode", path, f"{noise}{hash_of(path, noise)}"] for path in paths]
    node = {"id": "model.layers.0.mlp#mul"}
    return {
        "kind": "measure",
        "metrics": {"ttft": {"value": 0.25}},
        "extra": extra,
        "modules": {"columns": ["stage", "path", "class"], "rows": rows},
        "module_times": {"decode": {"paths": paths, "exclusive_s": [[float(index) for index in range(len(paths))]]}},
        "graph": {"decode": {"nodes": [{"id": "model"}, node], "edges": [{"source": node["id"], "target": "model"}]}},
        "profiled": {"method": "m", "operators": {"columns": ["path", "calls"], "rows": [[path, 1] for path in paths]}},
        "memory": {"phases": [1], "timeline": {"columns": [], "rows": [[number] for number in range(layers)]}},
    }


def hash_of(path: str, noise: str) -> str:
    import hashlib

    return hashlib.sha256((path + noise).encode()).hexdigest() if noise else ""


def size(found: dict) -> int:
    return len(json.dumps(found))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.text(max_size=20), values, st.integers(300, 20_000))
def test_whatever_the_limit_it_is_kept_and_what_is_missing_is_named(layers, noise, extra, limit):
    whole = document(layers, noise, extra)
    before = json.dumps(whole)
    try:
        found = pack(whole, limit)
    except TooLarge:
        return
    finally:
        assert json.dumps(whole) == before, "what is packed is left as it is"
    assert size(found) <= limit
    again = unpack(json.loads(json.dumps(found)))
    dropped = found["dropped"]
    if not dropped:
        assert again == whole
    gone = [name for name in dropped if not name.startswith("section:")]
    assert gone == list(reversed(blocks(whole)))[: len(gone)], "the last layers go first"
    left = [row[1] for row in again.get("modules", {"rows": []})["rows"]]
    for name in gone:
        assert not [path for path in left if f"{path}.".startswith(f"{name}.")]
        assert f'"{name}' not in json.dumps(again), "nowhere"
    if "section:modules" not in dropped:
        kept = [name for name in blocks(whole) if name not in gone]
        assert blocks(again) == kept
    for name in (name.removeprefix("section:") for name in dropped if name.startswith("section:")):
        section, _, part = name.partition(".")
        assert part not in again[section] if part else section not in again
    assert again["metrics"] == whole["metrics"]
    assert again["extra"] == whole["extra"]


def test_layers_go_only_as_far_as_they_must():
    whole = document(32, "x")
    full = size(pack(whole, 10**9))
    found = pack(whole, full - 1)
    assert found["dropped"] == ["model.layers.31"]
    assert pack(whole, full)["dropped"] == []
    times = unpack(found)["module_times"]["decode"]
    assert len(times["paths"]) == len(times["exclusive_s"][0]) == 3 + 31 * 3
    nothing_left = pack(whole, 1000)
    assert nothing_left["dropped"][:32] == [f"model.layers.{number}" for number in reversed(range(32))]
    assert "section:modules" in nothing_left["dropped"]
    with pytest.raises(TooLarge, match="into 200 bytes"):
        pack(whole, 200)


def test_a_real_document_keeps_what_does_not_belong_to_a_layer():
    whole = json.loads((ROOT / "tests/data/documents/measure_smollm2.json").read_text())
    full = pack(whole, 10**9)
    assert unpack(full) == whole
    smaller = pack(whole, size(full) // 2)
    assert smaller["dropped"]
    again = unpack(smaller)
    assert again["metrics"] == whole["metrics"]
    assert again["samples"] == whole["samples"]


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(encoding="zip"),
        lambda found: found.update(data="%%%"),
        lambda found: found.update(data=base64.b64encode(b"not gzip").decode()),
        lambda found: found.update(data=found["data"][: len(found["data"]) // 2 // 4 * 4]),
        lambda found: found.update(bytes=1),
        lambda found: found.update(sha256="0" * 64),
        lambda found: found.update(data=None),
        lambda found: found.clear(),
    ],
)
def test_what_was_changed_on_the_way_is_refused(change):
    found = pack(document(2), 10**6)
    change(found)
    with pytest.raises(Broken):
        unpack(found)
    for other in (None, [], "x", 3):
        with pytest.raises(Broken):
            unpack(other)


def test_a_small_answer_cannot_fill_the_memory(monkeypatch):
    monkeypatch.setattr(packed, "MAX_UNPACKED", 1000)
    bomb = gzip.compress(b"[" * 10**6)
    with pytest.raises(Broken):
        unpack({"encoding": packed.ENCODING, "bytes": 10**6, "sha256": "", "data": base64.b64encode(bomb).decode()})


def test_whoever_unpacks_needs_no_torch():
    code = "import sys, profiling.remote.packed; print([n for n in ('torch', 'transformers', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
