"""The small memory of the engine and of the previews."""

from __future__ import annotations

from profiling.lru import Lru


def test_it_forgets_the_least_recently_used():
    cache: Lru[int] = Lru(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    cache.clear()
    assert cache.get("a") is None


def test_the_first_of_two_threads_is_kept():
    cache: Lru[int] = Lru(2)
    assert cache.put("a", 1) == 1
    assert cache.put("a", 2) == 1
    assert cache.get("a") == 1
