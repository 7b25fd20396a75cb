"""Multi-head latent attention in the three forms in which it can run. Pure functions over a trace, standard library only.

A layer remembers a latent of each token (``rank`` numbers) and a key for its position (``rope`` numbers); keys and values of all
heads are a linear map of the latent (DeepSeek-V2, arXiv 2405.04434, section 2.1). ``executed``: as transformers runs it, the
latent is cached and the map is applied to the whole cache in every step. ``expanded``: keys and values are cached, the map is
applied to new tokens. ``absorbed``: the latent is cached and attended to as one head that all queries share; the half of the map
that makes keys is applied to the queries, the half that makes values to what attention returns.

A layer is recognised by its data flow: the product of something cached with a weight, from which (and from cached keys of
positions) both the keys and the values of one attention are made. Keys and values of two products are no latent attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from profiling.recording import Allocation, Call, Occupied, Recording, Shaped
from profiling.spec import Counting

if TYPE_CHECKING:
    from profiling.execution import Work
    from profiling.passes import Trace

#: Classes of operators that lay out what a product has made, and compute nothing of it.
_ARRANGES = ("copy", "elementwise", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """One latent attention of a trace: numbers of calls, and sizes in elements.

    ``expand``: the product of latent and weight. ``keys_made``, ``values_made``: what lays its output out as keys and values.
    ``attend``: what reads them: one kernel, or a product of queries and keys and one of probabilities and values.
    ``latent_kept``, ``position_kept``: what adds new tokens to the cached latent, and to the cached keys of positions.
    ``asks``: what lays out the queries; ``last``: the module's last call. ``nope``: size of the part of a head's key that is expanded.
    """

    expand: int
    keys_made: tuple[int, ...]
    values_made: tuple[int, ...]
    attend: tuple[int, ...]
    latent_kept: int | None
    position_kept: int | None
    asks: int | None
    last: int
    batch: int
    heads: int
    queries: int
    keys: int
    rank: int
    nope: int
    key_size: int
    value_size: int
    itemsize: int

    @property
    def rope(self) -> int:
        return self.key_size - self.nope

    @property
    def latent_bytes(self) -> int:
        """Of one token in this layer's cache, executed and absorbed: latent and key of its position."""
        return (self.rank + self.rope) * self.itemsize

    @property
    def expanded_bytes(self) -> int:
        """Of one token in this layer's cache, expanded: heads · (d_qk + d_v)."""
        return self.heads * (self.key_size + self.value_size) * self.itemsize


# --- recognising --------------------------------------------------------------------------------------------------------


def latents(recording: Recording) -> list[Latent]:
    """Every latent attention of a pass; empty for a model without any."""
    found = (_follow(recording, call) for call in recording.calls if _reads_cache_and_weight(recording, call))
    return [latent for latent in found if latent is not None]


def _reads_cache_and_weight(recording: Recording, call: Call) -> bool:
    if call.op_class != "matmul" or len(call.inputs) < 2:
        return False
    left, right = call.inputs[-2:]
    return left.uid in recording.cache_uids and right.source == "weight" and len(left.shape) == len(right.shape) == 2


def _follow(recording: Recording, expand: Call) -> Latent | None:
    """The attention that reads what ``expand`` made as its keys and its values, or None."""
    made = {expand.outputs[0].uid}
    arranges: list[Call] = []
    attend: list[Call] = []
    module = expand.path.rpartition(".")[0]
    for call in recording.calls[expand.index + 1 :]:
        if not call.path.startswith(module):
            break
        if not any(t.uid in made for t in call.inputs):
            continue
        if call.op_class in _ARRANGES:
            arranges.append(call)
            made.update(t.uid for t in call.outputs)
        else:
            attend.append(call)
            if call.op_class == "attention" or len(attend) == 2:
                return _measured(recording, expand, arranges, attend, made)
    return None


def _measured(
    recording: Recording, expand: Call, arranges: list[Call], attend: list[Call], made: set[int]
) -> Latent | None:
    found = _roles(attend)
    if found is None:
        return None
    query, key, value, batch_heads, keys, key_size = found
    rows, rank = expand.inputs[-2].shape
    if key.uid not in made or value.uid not in made or query.uid in made or rows % keys:
        return None
    batch, value_size = rows // keys, value.shape[-1]
    heads = batch_heads // batch
    nope = expand.outputs[0].shape[-1] // heads - value_size if heads else 0
    if heads * (nope + value_size) != expand.outputs[0].shape[-1] or not 0 < nope <= key_size:
        return None
    keys_made = _made_by(arranges, key.uid)
    kept = {t.uid for call in keys_made for t in call.inputs} & recording.cache_uids
    asks = _writer(recording, query.uid, attend[0].index)
    lays_out = asks is not None and asks.op_class == "copy" and asks.outputs[0].shape[-1] == key_size
    return Latent(
        expand=expand.index,
        keys_made=tuple(call.index for call in keys_made),
        values_made=tuple(call.index for call in _made_by(arranges, value.uid) if call not in keys_made),
        attend=tuple(call.index for call in attend),
        latent_kept=_number(_writer(recording, expand.inputs[-2].uid, expand.index)),
        position_kept=_number(_writer(recording, kept.pop(), expand.index)) if len(kept) == 1 else None,
        asks=_number(asks) if lays_out else None,
        last=_last_of(recording, expand),
        batch=batch,
        heads=heads,
        queries=query.shape[-2],
        keys=keys,
        rank=rank,
        nope=nope,
        key_size=key_size,
        value_size=value_size,
        itemsize=expand.outputs[0].itemsize,
    )


def _roles(attend: list[Call]) -> tuple[Shaped, Shaped, Shaped, int, int, int] | None:
    """(queries, keys, values, batch · heads, number of keys, size of a key) of an attention."""
    first = attend[0]
    if first.op_class == "attention":
        if len(first.inputs) < 3 or len(first.inputs[1].shape) != 4:
            return None
        query, key, value = first.inputs[:3]
        return query, key, value, key.shape[0] * key.shape[1], key.shape[2], key.shape[3]
    products = [c.inputs[-2:] for c in attend if c.op_class == "matmul" and len(c.inputs) > 1]
    if len(products) != 2 or any(len(t.shape) != 3 for pair in products for t in pair):
        return None
    (query, key), (_, value) = products
    return query, key, value, key.shape[0], key.shape[2], key.shape[1]


def _made_by(arranges: list[Call], uid: int) -> list[Call]:
    """Those of ``arranges`` from which the tensor comes, in the order of execution."""
    wanted, found = {uid}, []
    for call in reversed(arranges):
        if any(t.uid in wanted for t in call.outputs):
            found.append(call)
            wanted.update(t.uid for t in call.inputs)
    return found[::-1]


def _writer(recording: Recording, uid: int, before: int) -> Call | None:
    """The last call before number ``before`` that wrote the tensor."""
    return next((c for c in reversed(recording.calls[:before]) if any(t.uid == uid for t in c.outputs)), None)


def _number(call: Call | None) -> int | None:
    return None if call is None else call.index


def _last_of(recording: Recording, expand: Call) -> int:
    """Number of the last call of the module that holds ``expand``: until then its local tensors are alive."""
    module = expand.path.rpartition(".")[0] + "."
    rest = recording.calls[expand.index :]
    inside = (c.index for c in rest if c.path == module[:-1] or c.path.startswith(module))
    last = expand.index
    for index in inside:
        if index > last + 1 and not recording.calls[index - 1].path.startswith(module[:-1]):
            break
        last = index
    return last


# --- the forms ----------------------------------------------------------------------------------------------------------


def in_form(trace: Trace, works: Sequence[Work], counting: Counting) -> list[Work]:
    """``works`` of a trace with its latent attention in the form that ``counting.mla`` names.

    As many in the same order: what a form has no use for asks for nothing. FLOPs and bytes per layer, S new tokens of B
    sequences, T cached ones with them, H heads: expansion of all keys and values 2·B·T·rank·H·(nope + d_v), of new ones the same
    with S for T, which absorbing takes too; attention 2·B·H·S·T·(d_qk + d_v), absorbed 2·B·H·S·T·(2·rank + rope).
    """
    result = list(works)
    if counting.mla == "executed":
        return result
    for latent in latents(trace.recording):
        (_expanded if counting.mla == "expanded" else _absorbed)(result, latent)
    return result


def _expanded(works: list[Work], m: Latent) -> None:
    new, whole = m.queries, m.keys
    expand = works[m.expand]
    works[m.expand] = replace(
        expand,
        flops=_part(expand.flops, new, whole),
        elementwise_flops=_part(expand.elementwise_flops, new, whole),
        cache_read=0,
        cache_vector=0,
        other_read=m.batch * new * m.rank * m.itemsize,
        other_written=_part(expand.other_written, new, whole),
        rows=m.batch * new,
    )
    for index in m.keys_made:
        work = works[index]
        read = _part(work.other_read + work.cache_read, new, whole)
        works[index] = replace(_scaled(work, new, whole), cache_read=0, other_read=read, cache_vector=0)
    for index in m.values_made:
        works[index] = _nothing(works[index])  # the cache has values in the layout that attention reads
    for index, nbytes in zip(m.attend, _read_by(m), strict=True):
        work = works[index]
        works[index] = replace(
            work, cache_read=work.cache_read + nbytes, other_read=work.other_read - nbytes, cache_vector=m.key_size
        )
    keys, values = m.heads * m.key_size, m.heads * m.value_size
    if m.position_kept is not None:
        works[m.position_kept] = replace(_scaled(works[m.position_kept], keys, m.rope), cache_vector=m.key_size)
        keys = 0
    if m.latent_kept is not None:
        made = _scaled(works[m.latent_kept], keys + values, m.rank)
        works[m.latent_kept] = replace(made, cache_vector=m.value_size)


def _absorbed(works: list[Work], m: Latent) -> None:
    each = m.batch * m.queries * m.heads * m.itemsize  # bytes of one number per query and head
    shared = m.batch * m.keys * m.itemsize  # of one number per cached token: one head for all queries
    expand = works[m.expand]
    works[m.expand] = replace(
        expand,
        flops=_part(expand.flops, m.queries, m.keys),
        elementwise_flops=_part(expand.elementwise_flops, m.queries, m.keys),
        cache_read=0,
        cache_vector=0,
        other_read=each * (m.nope + m.rank),
        other_written=each * (m.rank + m.value_size),
        rows=m.batch * m.queries,
    )
    for index in (*m.keys_made, *m.values_made):
        works[index] = _nothing(works[index])
    wide = m.rank + m.rope
    if m.asks is not None:
        works[m.asks] = _scaled(works[m.asks], wide, m.key_size)
    replaced = list(zip(m.attend, _read_by(m), strict=True))
    for position, (index, nbytes) in enumerate(replaced):
        work = works[index]
        asks, answers = position == 0, position == len(replaced) - 1
        before = asks * m.key_size + answers * m.value_size
        works[index] = replace(
            work,
            flops=_part(work.flops, asks * wide + answers * m.rank, before),
            # The kernel finds the values among the keys; a product of its own reads them once more.
            cache_read=work.cache_read + shared * (wide if asks else m.rank),
            other_read=work.other_read - nbytes + asks * each * (wide - m.key_size),
            other_written=each * m.rank if answers else work.other_written,
            cache_vector=m.rank,
        )


def _read_by(m: Latent) -> list[int]:
    """Bytes of expanded keys and values that each call of ``attend`` reads as executed."""
    size = m.batch * m.heads * m.keys * m.itemsize
    if len(m.attend) == 1:
        return [size * (m.key_size + m.value_size)]
    return [size * m.key_size, size * m.value_size]


def _part(value: int, numerator: int, denominator: int) -> int:
    return value * numerator // denominator


def _scaled(work: Work, numerator: int, denominator: int) -> Work:
    """All that an operator asks for but its weights, times a fraction."""
    names = ("flops", "elementwise_flops", "cache_read", "other_read", "cache_written", "other_written")
    scaled: dict[str, Any] = {name: _part(getattr(work, name), numerator, denominator) for name in names}
    return replace(work, **scaled)


def _nothing(work: Work) -> Work:
    return _scaled(work, 0, 1)


# --- memory -------------------------------------------------------------------------------------------------------------


def kept(trace: Trace, counting: Counting) -> Trace:
    """``trace`` with the cache and the activations that it has in the form that ``counting.mla`` names; its calls stay as they ran.

    Expanded keys and values of earlier tokens are in the cache or nowhere, absorbed ones nowhere; then queries are as wide as what
    is cached, and what attention returns is there as a latent too. Peaks of single modules are those of the pass as it ran, or the
    new peak of all where that is lower.
    """
    found = latents(trace.recording) if counting.mla != "executed" else []
    if not found:
        return trace
    grown = 0
    if counting.mla == "expanded":
        grown = sum(trace.times[m.expand] * m.batch * m.keys * (m.expanded_bytes - m.latent_bytes) for m in found)
    parts = dict(part for m in found for part in _parts(trace.recording, m, counting.mla))
    return replace(trace, recording=_alive(trace.recording, parts), cache_bytes=trace.cache_bytes + grown)


def grown_per_token(trace: Trace, counting: Counting) -> int:
    """Bytes by which a cached token of one sequence is larger than as transformers caches it."""
    found = latents(trace.recording) if counting.mla == "expanded" else []
    return sum(trace.times[m.expand] * (m.expanded_bytes - m.latent_bytes) for m in found)


def _parts(recording: Recording, m: Latent, form: str) -> Iterator[tuple[int, tuple[int, int]]]:
    """(storage, the fraction of its size that it has in the form)."""

    def made_by(index: int) -> int:
        return recording.calls[index].outputs[0].uid

    new = (m.queries, m.keys) if form == "expanded" else (0, 1)
    yield made_by(m.expand), new
    if m.keys_made:
        yield made_by(m.keys_made[-1]), new
    if m.values_made:
        yield made_by(m.values_made[-1]), (0, 1)
    if form == "absorbed":
        if m.asks is not None:
            yield made_by(m.asks), (m.rank + m.rope, m.key_size)
        yield made_by(m.attend[-1]), (m.rank + m.value_size, m.value_size)


def _alive(recording: Recording, parts: dict[int, tuple[int, int]]) -> Recording:
    """``recording`` with storages of other sizes."""
    alive = 0
    levels: list[int] = []
    allocations: list[Allocation] = []
    workspaces = iter(recording.occupied)
    occupied: list[Occupied] = []
    seen: set[int] = set()
    for uid, nbytes, birth in recording.allocations:
        numerator, denominator = parts.get(uid, (1, 1))
        change = abs(nbytes) * numerator // denominator * (1 if nbytes > 0 else -1)
        workspace = uid in recording.workspace_calls and uid not in seen
        seen.add(uid)
        if workspace:
            occupied.append(Occupied(len(levels), alive, next(workspaces).workspace))
        alive += change
        allocations.append(Allocation(uid, change, birth))
        if birth:
            levels.append(alive)
    peak = max(levels, default=0)
    return replace(
        recording,
        alive=tuple(levels),
        allocations=tuple(allocations),
        occupied=tuple(occupied),
        spans=tuple(replace(span, alive=min(span.alive, peak)) for span in recording.spans),
    )
