"""What the schema of an ATen operator says of it."""

from __future__ import annotations

from typing import Any

_VIEWS = {
    "_unsafe_view",
    "_reshape_alias",
    "detach",
    "alias",
    "lift_fresh",
    "lift",
    "detach_",
    "set_",
    "requires_grad_",
}
_SILENT = {"sym_size", "sym_stride", "sym_numel", "sym_storage_offset", "is_pinned", "is_same_size", "_assert_async"}
_facts: dict[Any, tuple[str, bool, bool]] = {}


def op_facts(func: Any) -> tuple[str, bool, bool]:
    """Name, moves nothing?, in place?"""
    known = _facts.get(func)
    if known is None:
        schema = func._schema
        name = schema.name.split("::")[-1]
        returns = schema.returns
        aliases = [r.alias_info for r in returns]
        view = bool(returns) and all(a is not None and not a.is_write for a in aliases)
        in_place = any(a is not None and a.is_write for a in aliases)
        known = _facts[func] = (name, view or name in _VIEWS or name in _SILENT or not returns, in_place)
    return known
