"""What the environment says: the variables that Vertex AI sets (``AIP_…``) and our own. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from profiling.spec import WORKLOAD_DTYPES

_ROUTE = re.compile(r"/[A-Za-z0-9_.:/\-]{0,500}")


class SettingError(ValueError):
    """A variable cannot be used; the sentence names it."""


@dataclass(frozen=True)
class Settings:
    """Sizes in bytes. ``storage_uri``, else ``model``, says what is served; ``random_weights``: its shape alone, with random weights."""

    port: int = 8080
    bind: str = "127.0.0.1"
    health_route: str = "/health"
    predict_route: str = "/predict"
    storage_uri: str = ""
    model: str = ""
    random_weights: bool = False
    dtype: str = "bf16"
    threads: int | None = None
    max_answer_bytes: int = 1_400_000
    max_request_bytes: int = 10_000_000
    max_model_bytes: int = 200_000_000_000
    max_waiting: int = 16
    profile_seconds: int = 300

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Raises :class:`SettingError` at the first variable that makes no sense."""

        def text(name: str, default: str = "") -> str:
            return environment.get(name, "").strip() or default

        def number(name: str, default: int | None, low: int, high: int = 10**15) -> int | None:
            given = text(name)
            if not given:
                return default
            if not given.isascii() or not given.isdigit() or not low <= int(given) <= high:
                raise SettingError(f"{name} must be a whole number from {low:,} to {high:,}, not {given!r}.")
            return int(given)

        def route(name: str, default: str) -> str:
            given = text(name, default)
            if not _ROUTE.fullmatch(given):
                raise SettingError(f"{name} must be a path such as {default}, not {given!r}.")
            return given

        storage, model = text("AIP_STORAGE_URI"), text("LLMCOMPARE_MODEL")
        if not storage and not model:
            raise SettingError(
                "Nothing says which model to serve. Set AIP_STORAGE_URI (a folder or gs://bucket/folder) or LLMCOMPARE_MODEL "
                "(a folder, or a name of the model catalogue)."
            )
        dtype = text("LLMCOMPARE_DTYPE", cls.dtype)
        if dtype not in WORKLOAD_DTYPES:
            raise SettingError(f"LLMCOMPARE_DTYPE must be one of {', '.join(WORKLOAD_DTYPES)}, not {dtype!r}.")
        return cls(
            port=number("AIP_HTTP_PORT", cls.port, 1, 65535) or cls.port,
            bind=text("LLMCOMPARE_BIND", cls.bind),
            health_route=route("AIP_HEALTH_ROUTE", cls.health_route),
            predict_route=route("AIP_PREDICT_ROUTE", cls.predict_route),
            storage_uri=storage,
            model=model,
            random_weights=text("LLMCOMPARE_RANDOM_WEIGHTS").lower() in ("1", "true", "yes", "on"),
            dtype=dtype,
            threads=number("LLMCOMPARE_THREADS", None, 1, 4096),
            max_answer_bytes=number("LLMCOMPARE_MAX_ANSWER_BYTES", cls.max_answer_bytes, 50_000) or 0,
            max_request_bytes=number("LLMCOMPARE_MAX_REQUEST_BYTES", cls.max_request_bytes, 1_000) or 0,
            max_model_bytes=number("LLMCOMPARE_MAX_MODEL_BYTES", cls.max_model_bytes, 1) or 0,
            max_waiting=number("LLMCOMPARE_MAX_WAITING", cls.max_waiting, 1, 10_000) or 0,
            profile_seconds=number("LLMCOMPARE_PROFILE_SECONDS", cls.profile_seconds, 1, 3600) or 0,
        )
