"""Memory events of a trace: what is cache, what is activation, and how much there was of each at the worst moment."""

from __future__ import annotations

from profiling.allocations import allocations, timeline


def span(name: str, begin: float, end: float, cat: str = "user_annotation") -> dict:
    return {"ph": "X", "cat": cat, "name": name, "tid": 7, "ts": begin, "dur": end - begin}


def memory(at: float, size: int, address: int, kind: int = 0) -> dict:
    arguments = {"Bytes": size, "Addr": address, "Device Type": kind}
    return {"ph": "i", "name": "[memory]", "tid": 7, "ts": at, "args": arguments}


#: One prefill and one decode step: a cache of 100 bytes grows to 120 by a copy; activations of 300 and of 40 come and go.
EVENTS = [
    span("stage: prefill", 0, 100),
    span("module: ", 1, 90),
    span("module: layers.0", 2, 80),
    span("aten::mm", 3, 30, "cpu_op"),
    memory(5, 300, 0xA),
    memory(40, 100, 0xC),
    memory(60, -300, 0xA),
    span("stage: decode", 100, 200),
    span("module: ", 101, 190),
    memory(110, 40, 0xB),
    memory(120, 120, 0xD),
    memory(130, -100, 0xC),
    memory(150, -40, 0xB),
    memory(195, -8, 0xE),
    memory(199, 1000, 0xF, kind=1),
]
CACHES = [{0xC: 100}, {0xD: 120}]


def test_every_allocation_stands_where_it_happened():
    found, _ = allocations(EVENTS, CACHES, cuda=False)
    first = found[0]
    assert (first.stage, first.path, first.operator, first.size, first.held) == (
        "prefill",
        "layers.0",
        "aten::mm",
        300,
        300,
    )
    assert found[1].operator is None
    assert [a.kind for a in found] == [
        *["activation", "cache"],
        "activation",
        "activation",
        "cache",
        "cache",
        "activation",
        "before",
    ]
    assert [a.held for a in found] == [300, 400, 100, 140, 260, 160, 120, 112]
    assert timeline(found)["rows"][1][:2] == [35_000, "prefill"]


def test_the_peak_is_split_into_cache_and_activations():
    _, peaks = allocations(EVENTS, CACHES, cuda=False)
    assert (peaks["prefill"].held, peaks["prefill"].activations) == (400, 300)
    assert (peaks["decode"].held, peaks["decode"].activations) == (260, 40)


def test_a_cache_that_was_allocated_elsewhere_leaves_activations_unknown():
    _, peaks = allocations(EVENTS, [{0x99: 100}, {0xD: 120}], cuda=False)
    assert peaks["prefill"].activations is None
    assert peaks["prefill"].held == 400


def test_only_the_devices_own_memory_counts():
    found, peaks = allocations(EVENTS, [], cuda=True)
    assert [a.size for a in found] == [1000]
    assert peaks["decode"].held == 1000
    assert allocations([], [], cuda=False) == ([], {})
