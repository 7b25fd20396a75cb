"""Vision and audio front ends of models that read text: what one pass through them takes and gives.

transformers gives most such models two methods, ``get_image_features`` and ``get_audio_features``: the tower, its pooling and the
projection into the language model's space; where they are missing, the tower and the projector are run. What goes in is laid out differently by family (whole images, images cut into
tiles or into flattened patches, mel spectrograms), so a front end is offered the layouts whose names its method knows, one
after the other, until one fits. Sizes come from the model's own configuration; where a model takes images of any size, one
of :data:`ANY_IMAGE` pixels a side stands for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.fx.experimental import _config as fx_config
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from profiling.tensors import tensors_in

METHODS = {"image": "get_image_features", "audio": "get_audio_features"}

#: Pixels a side of an image for models that take any size.
ANY_IMAGE = 448
#: Frames of a spectrogram for models that take any length: 30 s at the usual 100 frames a second.
ANY_SOUND = 3000

Arguments = dict[str, Any]


def front_ends(module: nn.Module) -> tuple[str, ...]:
    """Which of :data:`METHODS` the model has, as a method or as a tower."""
    return tuple(kind for kind in METHODS if _method(module, kind) or _towers(module, kind))


def _method(module: nn.Module, kind: str) -> Callable[..., Any] | None:
    """The method for features of the model, or of the model under its head."""
    found = getattr(module, METHODS[kind], None) or getattr(getattr(module, "model", None), METHODS[kind], None)
    return found if callable(found) else None


def run_front_end(module: nn.Module, kind: str, arguments: Arguments) -> Any:
    """The features of the images or sounds in ``arguments``, on the meta device. ``kind``: one that the model has."""
    with _OneEach(), _Sizes(), _nothing_padded():
        return _features(module, kind)(**arguments)


def layouts(module: Any, kind: str, count: int, dtype: torch.dtype) -> Iterator[Arguments]:
    """Arguments for ``count`` images or sounds in every layout whose names the model's method knows."""
    inner = getattr(module, "model", module)
    method = getattr(inner, METHODS[kind], None) or _method(module, kind) or _towers(module, kind)[0].forward
    known = inspect.signature(method).parameters
    required = {n for n, p in known.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
    for layout in _LAYOUTS[kind]:
        arguments = layout(module.config, count, dtype)
        if required <= arguments.keys() <= known.keys():
            yield arguments


def beside_prompt(module: nn.Module, kind: str) -> bool:
    """Whether the language model attends to the features from layers of their own, so that they take no place in its prompt."""
    whole: Any = module.config
    config = whole.get_text_config()
    return kind == "image" and any(getattr(config, name, None) for name in _CROSS_ATTENTION)


#: What configurations call the layers, or how often there is one, that attend to images outside of the prompt.
_CROSS_ATTENTION = ("cross_attention_layers", "cross_layer_interval")


#: Arguments that say of how many rows and columns of patches an image is.
_GRIDS = ("image_grid_thw", "image_grid_hw", "spatial_shapes", "target_sizes")


def in_words(config: Any, arguments: Arguments) -> str:
    """How large one of the images or sounds in ``arguments`` is: ``336 × 336 pixels``, ``3,000 frames``."""
    if "input_features" in arguments:
        return f"{max(arguments['input_features'].shape[1:]):,} frames"
    places: Any = arguments.get("image_position_ids")
    grids = next((arguments[name] for name in _GRIDS if name in arguments), None)
    pixels = arguments["pixel_values"].shape
    if places is not None or grids is not None:
        rows, columns = (grids[0][-2:] if grids is not None else places[0].max(0).values + 1).tolist()
        size = (rows * _Image(config).patch, columns * _Image(config).patch)
    else:
        size = pixels[-2:]
    tiles = f" in {pixels[1]} tiles" if len(pixels) == 5 and pixels[1] > 1 else ""
    return " × ".join(f"{side:,}" for side in size) + f" pixels{tiles}"


def tokens_of(features: Any) -> int:
    """How many vectors the front end hands to the language model, in all."""
    pooled = getattr(features, "pooler_output", None)
    layers = getattr(features, "deepstack_features", None)
    if pooled is None and layers:
        pooled = layers[0]  # the same vectors once more for each of some layers of the language model
    tensors = tensors_in(features if pooled is None else pooled)
    tensors = tensors[:1] if pooled is None and len(tensors) > 1 else tensors
    return sum(t.numel() // t.shape[-1] for t in tensors if t.dim() > 1)


_TOWERS = {"image": ("vision_tower", "vision_model"), "audio": ("audio_tower",)}


def _towers(module: nn.Module, kind: str) -> list[nn.Module]:
    """The tower of a model without a method for features, and the projector after it."""
    inner = getattr(module, "model", module)
    towers = [t for t in (getattr(inner, name, None) for name in _TOWERS[kind]) if isinstance(t, nn.Module)]
    projector = getattr(inner, "multi_modal_projector", None)
    return [towers[0], projector] if towers and isinstance(projector, nn.Module) else []


def _features(module: nn.Module, kind: str) -> Callable[..., Any]:
    method = _method(module, kind)
    if method is not None:
        return method
    tower, projector = _towers(module, kind)
    return lambda **arguments: projector(tower(**arguments).last_hidden_state)


@contextmanager
def _nothing_padded() -> Iterator[None]:
    """Where a mask without values is asked for what is not padding, all is not."""
    before = fx_config.meta_nonzero_assume_all_nonzero
    fx_config.meta_nonzero_assume_all_nonzero = True
    try:
        yield
    finally:
        fx_config.meta_nonzero_assume_all_nonzero = before


class _OneEach(TorchFunctionMode):
    """How many images each prompt has, asked of a mask without values: one. What has values answers for itself."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not args or not isinstance(args[0], torch.Tensor):
            return func(*args, **kwargs)
        if func is torch.Tensor.tolist and args[0].is_meta:
            return [1] * args[0].shape[0]
        if not args[0].is_meta and func.__name__ in ("any", "all", "max", "item", "tolist", "__bool__", "__contains__"):
            with torch._C.DisableTorchFunction():  # past the answers that stand in for values
                return func(*args, **kwargs)
        return func(*args, **kwargs)


class _Sizes(TorchDispatchMode):
    """Sizes of images have values, on the CPU; where they meet a tensor without values, the result has none either."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and not (args[0].is_meta or args[0].is_floating_point()):
            return func(*args, **{k: v for k, v in kwargs.items() if k != "device"})  # stays where its values are
        tensors = tensors_in(args) + tensors_in(kwargs)
        if any(t.is_meta for t in tensors) and func is not torch.ops.aten.copy_.default:
            args = tree_map_only(torch.Tensor, _without_value, args)
            kwargs = tree_map_only(torch.Tensor, _without_value, kwargs)
        return func(*args, **kwargs)


def _without_value(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.is_meta or not tensor.dim() else tensor.to("meta")


# --- layouts ------------------------------------------------------------------------------------------------------------


def _first(config: Any, *names: str, default: Any = None) -> Any:
    """The first of the attributes that is there; of a size per dimension, the last."""
    found = next((v for v in (getattr(config, n, None) for n in names) if v is not None), default)
    return found[-1] if isinstance(found, (list, tuple)) and found else found


class _Image:
    """What the configuration says of an image: side in pixels and in patches, channels, patch size."""

    def __init__(self, config: Any) -> None:
        part = _first(config, "vision_config", "perceiver_config", default=config)
        self.patch = _first(part, "patch_size", "spatial_patch_size", default=16)
        self.channels = _first(part, "in_channels", "in_chans", "num_channels", "num_input_channels", default=3)
        self.frames = _first(part, "temporal_patch_size", "patch_temporal", default=1)
        self.merge = max(2, _first(part, "spatial_merge_size", "merge_size", default=2))
        side = _first(part, "image_size")
        self.grid = max(self.merge, (side or ANY_IMAGE) // self.patch // self.merge * self.merge)
        self.side = side or self.grid * self.patch

    def empty(self, dtype: torch.dtype, *shape: int) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")


def _patches(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Flattened patches of all images in one row, with the grid of each (Qwen-VL's family)."""
    image = _Image(config)
    values = image.channels * image.frames * image.patch**2
    pixels = image.empty(dtype, count * image.grid**2, values)
    return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, image.grid, image.grid]] * count)}


def _merged_patches(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    return _patches(config, count, dtype) | {"image_merge_sizes": torch.tensor([_Image(config).merge] * count)}


def _square_patches(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Patches that are still squares (Kimi)."""
    image, found = _Image(config), _patches(config, count, dtype)
    shape = (count * image.grid**2, image.channels, image.patch, image.patch)
    return found | {"pixel_values": image.empty(dtype, *shape)}


def _batched_square_patches(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    found = _square_patches(config, count, dtype)
    return found | {"pixel_values": found["pixel_values"].unsqueeze(0)}


def _whole(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """One image of the model's own size each."""
    image = _Image(config)
    return {"pixel_values": image.empty(dtype, count, image.channels, image.side, image.side)}


def _sized(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Images padded to one size, with the size of each."""
    image = _Image(config)
    return _whole(config, count, dtype) | {"image_sizes": torch.tensor([[image.side, image.side]] * count)}


def _masked(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Whole images, with a mask of the pixels that are image (Aria)."""
    image = _Image(config)
    mask = torch.ones(count, image.side, image.side, dtype=torch.bool, device="meta")
    return _whole(config, count, dtype) | {"pixel_mask": mask}


def _tiles(tiles: int) -> Callable[[Any, int, torch.dtype], Arguments]:
    """An overview and the tiles of each image (LLaVA-NeXT): of images as large as one tile, which fills ``tiles`` − 1."""

    def layout(config: Any, count: int, dtype: torch.dtype) -> Arguments:
        found = _sized(config, count, dtype)
        shape = found["pixel_values"].shape
        return found | {"pixel_values": torch.empty(count, tiles, *shape[1:], dtype=dtype, device="meta")}

    return layout


def _per_prompt(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Images by prompt (Idefics): one prompt each, nothing masked."""
    pixels = _whole(config, count, dtype)["pixel_values"].unsqueeze(1)
    mask = torch.ones(pixels.shape[0], 1, *pixels.shape[-2:], dtype=torch.bool, device="meta")
    return {"pixel_values": pixels, "pixel_attention_mask": mask}


def _tiles_per_prompt(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """The same with a mask of whole tiles (Granite-Docling)."""
    return _per_prompt(config, count, dtype) | {"pixel_attention_mask": torch.ones(count, 1, dtype=torch.bool)}


def _cross_attended(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Images as tiles of one picture each, all tiles used, with the number of their shape (Llama 3.2)."""
    image, tiles = _Image(config), _first(_first(config, "vision_config", default=config), "max_num_tiles", default=4)
    return {
        "pixel_values": image.empty(dtype, count, 1, tiles, image.channels, image.side, image.side),
        "aspect_ratio_ids": torch.ones(count, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(count, 1, tiles, dtype=torch.long),
    }


def _padded_patches(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Flattened patches of each image, padded to one length (SigLIP 2)."""
    image = _Image(config)
    patches = image.grid**2
    return {
        "pixel_values": image.empty(dtype, count, patches, image.channels * image.patch**2),
        "spatial_shapes": torch.tensor([[image.grid, image.grid]] * count),
        "pixel_attention_mask": torch.ones(count, patches, dtype=torch.long),
    }


def _placed_patches(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Flattened patches of each image with the place of each patch (Gemma 4)."""
    image = _Image(config)
    pool = _first(_first(config, "vision_config", default=config), "pooling_kernel_size", default=1)
    grid = image.grid // pool * pool
    steps = torch.arange(grid)
    places = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(1, -1, 2).repeat(count, 1, 1)
    pixels = image.empty(dtype, count, grid**2, image.channels * image.patch**2)
    return {"pixel_values": pixels, "image_position_ids": places}


def _grids(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Flattened patches of all images in one row, with rows and columns of each (Nemotron)."""
    image, found = _Image(config), _patches(config, count, dtype)
    return {"pixel_values": found["pixel_values"], "image_grid_hw": torch.tensor([[image.grid, image.grid]] * count)}


def _strip(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Patches of all images in one strip as high as a patch, with rows and columns of each (MiniCPM-V)."""
    image = _Image(config)
    grid = image.grid // 4 * 4  # merged twice by 2 × 2
    pixels = image.empty(dtype, 1, image.channels, image.patch, image.patch * grid**2 * count)
    return {"pixel_values": pixels, "target_sizes": torch.tensor([[grid, grid]] * count, dtype=torch.int32)}


def _two_sizes(config: Any, count: int, dtype: torch.dtype) -> Arguments:
    """Each image small and large, for a tower each (DeepSeek-VL)."""
    image = _Image(config)
    side = _first(_first(config, "high_res_vision_config", default=config), "image_size", default=1024)
    large = image.empty(dtype, count, image.channels, side, side)
    return _whole(config, count, dtype) | {"high_res_pixel_values": large}


def _spectrogram(
    *, time_first: bool = False, mask: str = "", kind: torch.dtype = torch.long
) -> Callable[..., Arguments]:
    """Mel spectrograms as (sounds, bins, frames), or (sounds, frames, bins), with a mask of the frames that are sound."""

    def layout(config: Any, count: int, dtype: torch.dtype) -> Arguments:
        part = _first(config, "audio_config", "encoder_config", default=config)
        bins = _first(part, "num_mel_bins", "input_dim", "input_feat_size", "feature_size", default=128)
        positions = _first(part, "max_source_positions")
        frames = 2 * positions if positions else ANY_SOUND
        shape = (count, frames, bins) if time_first else (count, bins, frames)
        found: Arguments = {"input_features": torch.empty(*shape, dtype=dtype, device="meta")}
        return found | ({mask: torch.ones(count, frames, dtype=kind)} if mask else {})

    return layout


_LAYOUTS: dict[str, tuple[Callable[[Any, int, torch.dtype], Arguments], ...]] = {
    "image": (
        _patches,
        _merged_patches,
        _square_patches,
        _batched_square_patches,
        _sized,
        _whole,
        _masked,
        _tiles(3),
        _tiles(2),
        _per_prompt,
        _tiles_per_prompt,
        _cross_attended,
        _padded_patches,
        _placed_patches,
        _grids,
        _strip,
        _two_sizes,
    ),
    "audio": (
        _spectrogram(),
        _spectrogram(mask="input_features_mask"),
        _spectrogram(mask="feature_attention_mask"),
        _spectrogram(time_first=True),
        _spectrogram(time_first=True, mask="input_features_mask", kind=torch.bool),
    ),
}
