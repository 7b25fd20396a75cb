"""Models as structures without weights: the real transformers class on torch's ``meta`` device.

Nothing here knows an architecture. A model is built from a deep copy of its configuration (transformers' constructors
change what they are given), described module by module, and then folded: of blocks that repeat identically, a prefix
stays that shows every kind of block, and a count says how often each stands for another. Tracing the folded model costs
the same for 4 layers and for 400.
"""

from __future__ import annotations

import copy
import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any, cast

import torch
import transformers
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from profiling.classes import resolve
from profiling.construction import bounded
from profiling.explanations import explain
from profiling.front_ends import front_ends
from profiling.lru import Lru
from profiling.spec import ModelSpec, SpecError

TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

#: Of blocks that have to be followed one by one: a pass over so many takes about a second. The deepest published model whose
#: blocks all differ (162 blocks) has 2,100.
MAX_TRACED_MODULES = 3_500

#: How often the same blocks may run in one pass.
MAX_REPETITIONS = 256

#: Constructing a model sets torch's default dtype, which is global to the process.
_BUILD_LOCK = threading.Lock()

_LAYER_NUMBER = ("layer_idx", "layer_id", "layer_number", "layer_index", "block_idx")


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """One node of the complete module tree. Parameters and bytes include the children, each tensor once.

    ``fold``: path of the first identical sibling (of the same place in it, for what lies inside a block).
    """

    path: str
    parent: str | None
    name: str
    class_name: str
    depth: int
    parameters: int
    weight_bytes: int
    leaf: bool
    fold: str


@dataclass(frozen=True, slots=True)
class Fold:
    """A list of blocks: ``stands_for[i]`` is how many blocks of the complete list the kept block ``i`` represents.

    ``kinds[j]`` is the kept block that represents block ``j`` in a trace, ``first[j]`` the first identical to it.
    """

    path: str
    kinds: tuple[int, ...]
    first: tuple[int, ...]
    stands_for: tuple[int, ...]

    @property
    def kept(self) -> int:
        return len(self.stands_for)


@dataclass(eq=False)
class Built:
    """A model ready to be traced (hold ``lock`` while running it), and what is known of the complete one."""

    module: nn.Module
    config: Any
    kind: str
    architecture: str
    dtype: torch.dtype
    modules: tuple[ModuleInfo, ...]
    parameters: int
    weight_bytes: int
    parameter_names: dict[str, int]
    folds: tuple[Fold, ...]
    layers: int | None
    max_context: int | None
    windows: tuple[int, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def times(self, path: str) -> int:
        """How many modules of the complete model the traced module at ``path`` stands for."""
        for fold in self.folds:
            index = block_index(fold, path)
            if index is not None:
                return fold.stands_for[index]
        return 1


def block_index(fold: Fold, path: str) -> int | None:
    """Number of the block of ``fold`` in which ``path`` lies, or None."""
    prefix = fold.path + "."
    if not path.startswith(prefix):
        return None
    return int(path[len(prefix) :].split(".", 1)[0])


def build(model: ModelSpec, dtype: str, attn_implementation: str = "sdpa", *, fold: bool = True) -> Built:
    """Build ``model`` on the meta device in ``dtype``; raises :class:`SpecError` when its class or configuration is unusable.

    ``fold=False`` keeps every block, for checking the folded model against.
    """
    config, cls = resolve(model)
    _check_repetitions(cls.__name__, config)
    module = _construct(cls, config, TORCH_DTYPES[dtype], attn_implementation)
    modules, folds = _describe(module, config)
    parameters, weight_bytes = _count(module)
    names = {name: tensor.numel() for name, tensor in module.named_parameters()}
    layers = max((len(f.kinds) for f in folds), default=None)
    if not fold:
        folds = tuple(_unfolded(item) for item in folds)
    _check_traced(cls.__name__, module, folds)
    if fold:
        for item in folds:
            blocks = cast(nn.ModuleList, module.get_submodule(item.path))
            del blocks[item.kept :]
    return Built(
        module=module,
        config=module.config,
        kind=model.kind,
        architecture=cls.__name__,
        dtype=TORCH_DTYPES[dtype],
        modules=modules,
        parameters=parameters,
        weight_bytes=weight_bytes,
        parameter_names=names,
        folds=folds,
        layers=layers,
        max_context=_max_context(module),
        windows=_windows(module),
    )


def _check_traced(architecture: str, module: nn.Module, folds: tuple[Fold, ...], *, unfolded: bool = False) -> None:
    """Raise :class:`SpecError` when the blocks that a trace runs through are too many: the kept ones, or ``unfolded`` all."""
    count = 0
    for fold in folds:
        blocks = cast(nn.ModuleList, module.get_submodule(fold.path))
        sizes = [_traced_modules(block) for block in blocks[: fold.kept]]
        count += sum(sizes[kind] for kind in fold.kinds) if unfolded else sum(sizes)
    if count > MAX_TRACED_MODULES:
        raise SpecError(
            "config",
            f"{architecture} has blocks that differ or depend on each other, so each has to be followed: their {count:,} modules "
            f"are too many (at most {MAX_TRACED_MODULES:,}), use fewer layers.",
        )


def _traced_modules(module: nn.Module) -> int:
    """Modules in a block; a list (of experts) counts as its first, as few of them run."""
    children = [module[0]] if isinstance(module, nn.ModuleList) and len(module) else list(module.children())
    return 1 + sum(_traced_modules(child) for child in children)


def _check_repetitions(architecture: str, config: Any) -> None:
    """Raise :class:`SpecError` when blocks that the model has once run too often (Perceiver repeats its list of layers)."""
    counts = [value_of(config, name) for name in ("num_blocks", "num_self_attends_per_block")]
    repetitions = math.prod(counts) if all(isinstance(count, int) for count in counts) else 0
    if repetitions > MAX_REPETITIONS:
        raise SpecError(
            "config",
            f"{architecture} runs {repetitions:,} layers one after the other (num_blocks · num_self_attends_per_block): at most "
            f"{MAX_REPETITIONS} are possible here.",
        )


def _unfolded(fold: Fold) -> Fold:
    n = len(fold.kinds)
    return Fold(fold.path, tuple(range(n)), fold.first, (1,) * n)


def _construct(cls: Any, config: Any, dtype: torch.dtype, attn_implementation: str) -> nn.Module:
    """Build on meta with the wanted attention; a class that refuses it gets ``eager``, as transformers itself does."""
    attempts = [attn_implementation, "eager"] if attn_implementation != "eager" else ["eager"]
    error: Exception | None = None
    for attempt in attempts:
        try:
            with _BUILD_LOCK, bounded(config.to_dict()), torch.device("meta"):
                module = cls._from_config(copy.deepcopy(config), dtype=dtype, attn_implementation=attempt)
            return without_values(module).eval().requires_grad_(False)
        except SpecError:
            raise
        except Exception as failure:
            error = failure
    raise SpecError("config", explain(error, f"{cls.__name__} cannot be built from this configuration")) from error


def without_values(module: nn.Module) -> nn.Module:
    """``module`` with every parameter on the meta device: torch's oldest constructors ignore the device asked for."""
    moved: dict[int, nn.Parameter] = {}
    for item in module.modules():
        for name, tensor in item._parameters.items():
            if tensor is not None and not tensor.is_meta:
                item._parameters[name] = moved.setdefault(id(tensor), nn.Parameter(tensor.to("meta")))
    return module


def _count(module: nn.Module) -> tuple[int, int]:
    """Parameters and their bytes, tied ones once."""
    tensors = list(module.parameters())
    return sum(t.numel() for t in tensors), sum(t.numel() * t.element_size() for t in tensors)


# --- the module tree and what repeats in it ----------------------------------------------------------------------------


def _describe(module: nn.Module, config: Any) -> tuple[tuple[ModuleInfo, ...], tuple[Fold, ...]]:
    named = list(module.named_modules())
    folds = _find_folds(named, config)
    owned: dict[str, dict[int, tuple[int, int]]] = {path: {} for path, _ in named}
    for path, item in named:
        own = {id(p): (p.numel(), p.numel() * p.element_size()) for p in item._parameters.values() if p is not None}
        place: str | None = path
        while place is not None:
            owned[place].update(own)
            place = _parent(place)
    infos = []
    for path, item in named:
        sizes = owned[path].values()
        infos.append(
            ModuleInfo(
                path=path,
                parent=_parent(path),
                name=path.rsplit(".", 1)[-1],
                class_name=type(item).__name__,
                depth=path.count(".") + 1 if path else 0,
                parameters=sum(n for n, _ in sizes),
                weight_bytes=sum(b for _, b in sizes),
                leaf=next(item.children(), None) is None,
                fold=_first_identical(path, folds),
            )
        )
    return tuple(infos), folds


def _parent(path: str) -> str | None:
    if not path:
        return None
    return path.rsplit(".", 1)[0] if "." in path else ""


def _first_identical(path: str, folds: tuple[Fold, ...]) -> str:
    for fold in folds:
        index = block_index(fold, path)
        if index is not None:
            head = f"{fold.path}.{index}"
            return f"{fold.path}.{fold.first[index]}{path[len(head) :]}"
    return path


def _find_folds(named: list[tuple[str, nn.Module]], config: Any) -> tuple[Fold, ...]:
    """Every outermost list of transformer blocks, with its blocks sorted into kinds."""
    per_layer = [v for v in vars(config).values() if isinstance(v, (list, tuple))]
    folds: list[Fold] = []
    holders = {path: item for path, item in named if isinstance(item, transformers.PreTrainedModel)}
    for path, item in named:
        if not isinstance(item, nn.ModuleList) or not len(item):
            continue
        if any(block_index(f, path) is not None for f in folds):
            continue
        if _in_front_end(path, named[0][1], holders):
            continue  # traced apart, and asked for the outputs of single blocks, which have to be there
        if not all(isinstance(block, GradientCheckpointingLayer) for block in item):
            continue
        # A list as long as the model is deep says something of each layer, unless it just numbers them all.
        lists = [v for v in per_layer if len(v) == len(item) and list(v) != list(range(len(item)))]
        signatures = [(_signature(block), tuple(repr(v[i]) for v in lists)) for i, block in enumerate(item)]
        folds.append(_fold(path, signatures))
    return tuple(folds)


def _in_front_end(path: str, whole: Any, holders: dict[str, Any]) -> bool:
    """Whether the module at ``path`` belongs to a part for images or sound, in a model whose language model takes text."""
    place = _parent(path)
    while place and place not in holders:
        place = _parent(place)
    if not place or not front_ends(whole):
        return False
    return not isinstance(holders[place].config, (type(whole.config), type(whole.config.get_text_config())))


def _fold(path: str, signatures: list[Any]) -> Fold:
    """Keep a prefix that shows every kind and every step from one kind to the next: what is alive depends on both."""
    places: dict[Any, int] = {}
    first = tuple(places.setdefault(signature, i) for i, signature in enumerate(signatures))
    steps: dict[tuple[int, int], int] = {}
    kept = max((steps.setdefault(step, i + 2) for i, step in enumerate(pairwise(first))), default=1)
    last_kept = {step: i for i, step in enumerate(pairwise(first[:kept]), 1)}
    kinds = (*range(kept), *(last_kept[step] for step in pairwise(first[kept - 1 :])))
    counts = Counter(kinds)
    return Fold(path, kinds, first, tuple(counts[i] for i in range(kept)))


def _signature(module: nn.Module) -> Any:
    """Equal for modules that do the same work: class, shapes and dtypes of tensors, plain attributes, children.

    Fractional attributes (a scale, an epsilon) are left out: no operator costs more for them.
    """
    tensors = tuple(
        (name, tuple(t.shape), str(t.dtype))
        for group in (module._parameters, module._buffers)
        for name, t in group.items()
        if t is not None
    )
    scalars = tuple(
        (name, value)
        for name, value in sorted(vars(module).items())
        if isinstance(value, (int, str, bool, tuple, type(None)))
        and not name.startswith("_")
        and name not in _LAYER_NUMBER
    )
    children = tuple((name, _signature(child)) for name, child in module.named_children())
    return (type(module).__qualname__, tensors, repr(scalars), children)


# --- facts -------------------------------------------------------------------------------------------------------------


_POSITIONS = (
    "max_target_positions",
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
)


def _text_part(config: Any) -> Any:
    try:
        return config.get_text_config()
    except ValueError:  # more than one
        return config


def _max_context(module: nn.Module) -> int | None:
    """Most positions that the model was made for, or None where nothing limits them (relative positions, state spaces)."""
    config, value = module.config, None
    # A model with front ends has the positions of its language model in that one's part of the configuration.
    parts = (config,) if getattr(config, "is_encoder_decoder", False) else (config, _text_part(config))
    for part, name in product(parts, _POSITIONS):
        value = getattr(part, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            break
    else:
        return None
    for path, item in module.named_modules():
        if isinstance(item, nn.Embedding) and "position" in path.rsplit(".", 1)[-1] and item.padding_idx is not None:
            # RoBERTa's family numbers positions from padding_idx + 1.
            if item.num_embeddings == value:
                value -= item.padding_idx + 1
            break
    return value


def _windows(module: nn.Module) -> tuple[int, ...]:
    """Sizes of the sliding windows and chunks that attention is limited to, each once."""
    holders = [module.config, *module.modules()]
    values = (value_of(h, name) for h in holders for name in ("sliding_window", "attention_chunk_size"))
    return tuple(sorted({v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0}))


def attention_of(built: Built) -> str | None:
    """The implementation of attention that runs; None for a model without attention."""
    if not value_of(built.config, "num_attention_heads"):
        return None
    return built.config._attn_implementation or "eager"


def value_of(holder: Any, name: str) -> Any:
    """The attribute ``name`` of a configuration or module; None where there is none, or not one for all layers."""
    try:
        return getattr(holder, name, None)
    except Exception:  # configurations that differ by layer refuse to answer for all; the modules know
        return None


_BUILT: Lru[Built] = Lru(12)


def cached_build(model: ModelSpec, dtype: str, attn_implementation: str) -> Built:
    """:func:`build`, remembered by configuration, class, kind, dtype and attention.

    Folded only where a short trace shows that folding is safe (:mod:`profiling.folding`).
    """
    key = (model.config_sha256(), model.kind, dtype, attn_implementation)
    return _BUILT.get(key) or _BUILT.put(key, _safely_folded(model, dtype, attn_implementation))


def _safely_folded(model: ModelSpec, dtype: str, attn_implementation: str) -> Built:
    from profiling.folding import folds_hold  # here: judging a fold takes a trace, and tracing takes this module

    built = build(model, dtype, attn_implementation)
    if folds_hold(built):
        return built
    _check_traced(built.architecture, built.module, built.folds, unfolded=True)
    return build(model, dtype, attn_implementation, fold=False)
