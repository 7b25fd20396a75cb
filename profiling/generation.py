"""The timed loops: prefill and greedy decode with a real cache, encode; raw stamps only, no statistics."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from profiling.failures import EngineError
from profiling.loading import Inputs

#: Under which names models of transformers return what the next step needs.
CACHE_NAMES = ("past_key_values", "cache_params", "state")


@dataclass(frozen=True)
class Stamp:
    """A moment: nanoseconds of the performance counter and of this process's processor time (all threads)."""

    wall_ns: int
    cpu_ns: int


class Stamps:
    """Marks taken during a pass. On CUDA they are events on the stream, turned into times only at the end."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Stamp] = []
        self._events: list[Any] = []
        self._synchronise()

    def mark(self) -> None:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)
        elif self._device.type == "mps":
            self._synchronise()
        self._marks.append(Stamp(time.perf_counter_ns(), time.process_time_ns()))

    def finish(self) -> list[Stamp]:
        """The marks so far. On CUDA, wall times are those at which the device reached them."""
        self._synchronise()
        if not self._events:
            return self._marks
        begin = self._marks[0].wall_ns
        elapsed = [0.0, *(self._events[0].elapsed_time(event) for event in self._events[1:])]
        return [Stamp(begin + round(ms * 1e6), mark.cpu_ns) for ms, mark in zip(elapsed, self._marks, strict=True)]

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()


@dataclass(frozen=True)
class Generation:
    """One pass: stamps at the start and after each token (so tokens + 1 of them), and ids [batch, tokens] of what came out.

    ``read``: tokens of the prompts, padding left out. ``going``: for each token, how many sequences had not ended before it.
    """

    stamps: list[Stamp]
    ids: torch.Tensor
    read: int = 0
    going: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        return int(self.ids.shape[1])


class Runner:
    """Runs a loaded model on prepared inputs. One object per measurement; holds no state between passes."""

    def __init__(
        self,
        loaded: Any,
        inputs: Inputs,
        *,
        kind: str,
        logits: str,
        device: torch.device,
        announce: Callable[..., None] | None = None,
    ) -> None:
        """``announce``: called with the name of a method here, the inputs and its arguments, before its clock starts (:mod:`profiling.ranks`)."""
        self._announce = announce or (lambda what, inputs, *arguments: None)
        self._model, self._inputs, self._kind, self.device = loaded, inputs, kind, device
        accepted = inspect.signature(loaded.forward).parameters
        self._told: Callable[[torch.Tensor], None] | None = None
        self._positions = "position_ids" in accepted and kind == "decoder"
        self._options: dict[str, Any] = {}
        if kind != "encoder" and "use_cache" in accepted:
            self._options["use_cache"] = True
        self.keeps_last_logits = logits == "last" and "logits_to_keep" in accepted
        if self.keeps_last_logits:
            self._options["logits_to_keep"] = 1

    @property
    def inputs(self) -> Inputs:
        return self._inputs

    def on(self, inputs: Inputs) -> Runner:
        """The same model on other inputs."""
        other = copy.copy(self)
        other._inputs = inputs
        return other

    def telling(self, told: Callable[[torch.Tensor], None]) -> Runner:
        """The same, which hands on each token [batch, 1] once its time is taken; what ``told`` takes falls into the next step. An
        exception of ``told`` ends the pass."""
        other = copy.copy(self)
        other._told = told
        return other

    @torch.inference_mode()
    def encode(self, between: Callable[[str], None] | None = None) -> Generation:
        """One forward pass of an encoder."""
        self._announce("encode", self._inputs)
        stamps = Stamps(self.device)
        stamps.mark()
        self._encode()
        stamps.mark()
        marks = stamps.finish()
        if between:
            between("encode")
        return Generation(marks, self._inputs.ids[:, :0], self._inputs.read)

    @torch.inference_mode()
    def generate(self, limit: int, between: Callable[[str], None] | None = None) -> Generation:
        """Greedy tokens, at most ``limit`` a sequence, until every sequence has met a stop token.

        The interval after mark i is the work for token i: forward pass and choice of the token. ``between`` is called with the
        stage after the prefill and after each decode step (for instrumented passes; its time falls into the next step).
        """
        self._announce("generate", self._inputs, limit)
        stamps = Stamps(self.device)
        stamps.mark()
        mask = self._inputs.mask
        output = self._prefill()
        token = output.logits[:, -1].argmax(-1, keepdim=True)
        stamps.mark()
        left = _left(output)
        del output  # its logits: a step that holds those of the one before needs more memory than generating does
        if self._told:
            self._told(token)
        if between:
            between("prefill")
        tokens = [token]
        ended = self._ends(token, None)
        while len(tokens) < limit and not (ended is not None and bool(ended.all())):
            mask = self._longer(mask)
            output = self._step(left, token, mask)
            token = output.logits[:, -1].argmax(-1, keepdim=True)
            stamps.mark()
            left = _left(output, left.encoded)
            del output
            tokens.append(token)
            if self._told:
                self._told(token)
            if between:
                between("decode")
            ended = self._ends(token, ended)
        ids, marks = torch.cat(tokens, dim=1), stamps.finish()
        return Generation(marks, ids, self._inputs.read, self._going(ids))

    @torch.inference_mode()
    def first_logits(self) -> tuple[Generation, bool]:
        """One prefill (or encode) alone, and whether everything it computed is a finite number."""
        self._announce("first_logits", self._inputs)
        stamps = Stamps(self.device)
        stamps.mark()
        values = self._encode()[0] if self._kind == "encoder" else self._prefill().logits
        stamps.mark()
        return Generation(stamps.finish(), self._inputs.ids[:, :0], self._inputs.read), bool(
            torch.isfinite(values).all()
        )

    def _ends(self, token: torch.Tensor, ended: torch.Tensor | None) -> torch.Tensor | None:
        if not self._inputs.stop:
            return None
        stop = torch.tensor(sorted(self._inputs.stop), device=token.device)
        now = torch.isin(token[:, 0], stop)
        return now if ended is None else ended | now

    def _going(self, ids: torch.Tensor) -> tuple[int, ...]:
        """Of each token, the sequences that no stop token has ended before it."""
        if not self._inputs.stop:
            return (int(ids.shape[0]),) * int(ids.shape[1])
        stop = torch.tensor(sorted(self._inputs.stop), device=ids.device)
        ended = torch.isin(ids, stop).cumsum(1) > 0
        return (int(ids.shape[0]), *(~ended[:, :-1]).sum(0).tolist())

    def _encode(self) -> Any:
        mask = self._inputs.mask
        return self._model(
            input_ids=self._inputs.ids, attention_mask=torch.ones_like(self._inputs.ids) if mask is None else mask
        )

    def _prefill(self) -> Any:
        if self._kind != "encdec":
            return self._model(input_ids=self._inputs.ids, **self._options, **self._padding(self._inputs.mask, 0))
        begin = getattr(self._model.config, "decoder_start_token_id", None)
        start = torch.full_like(self._inputs.ids[:, :1], 0 if begin is None else begin)
        masked = self._padding(self._inputs.mask, 0)
        return self._model(input_ids=self._inputs.ids, decoder_input_ids=start, **self._options, **masked)

    def _longer(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """The mask with the token that the next step reads; that of an encoder stays as it is."""
        if mask is None or self._kind == "encdec":
            return mask
        return torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)

    def _padding(self, mask: torch.Tensor | None, last: int) -> dict[str, Any]:
        """Arguments of a padded batch: the mask, and positions that do not count the padding (of the ``last`` tokens; 0: all)."""
        if mask is None:
            return {}
        if not self._positions:
            return {"attention_mask": mask}
        return {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, -last:]}

    def _step(self, left: _Left, token: torch.Tensor, mask: torch.Tensor | None) -> Any:
        if left.name is None:
            message = "This model returns no cache, so single decode steps cannot be timed. Ask for 1 output token, or estimate."
            raise EngineError(phase="decode", kind="unsupported", field="model", message=message)
        arguments = {left.name: left.cache, **self._options, **self._padding(mask, 1)}
        if self._kind != "encdec":
            return self._model(input_ids=token, **arguments)
        from transformers.modeling_outputs import BaseModelOutput

        return self._model(encoder_outputs=BaseModelOutput(left.encoded), decoder_input_ids=token, **arguments)


@dataclass(frozen=True)
class _Left:
    """What a pass leaves to the next one: its cache, under the name that the model takes it by (None: it returns none), and what an
    encoder computed."""

    name: str | None
    cache: Any
    encoded: Any


def _left(output: Any, encoded: Any = None) -> _Left:
    name = next((name for name in CACHE_NAMES if getattr(output, name, None) is not None), None)
    cache = None if name is None else getattr(output, name)
    return _Left(name, cache, getattr(output, "encoder_last_hidden_state", None) if encoded is None else encoded)
