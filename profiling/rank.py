"""A further rank of a measurement on several devices: ``python -m profiling.rank``, started by :class:`profiling.ranks.Ranks`.

Its stdin has one JSON line with what to load, then one for each pass, which it runs in step with rank 0. It measures nothing, and ends
when its stdin does, even in the middle of a pass, and on Linux with rank 0, whatever it is held up by. Why it ended early is left in the
ranks' folder.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from profiling.failures import EngineError, describe, out_of_memory
from profiling.spawn import die_with_parent


def main() -> None:
    die_with_parent()
    lines = _lines()
    asked = lines.get()
    try:
        _run(asked, lines)
    except EngineError as error:
        _say(asked, error.to_json())
    except BaseException as error:
        kind = "memory" if out_of_memory(error) else "internal"
        message = "There was not enough memory." if kind == "memory" else describe(error)
        _say(asked, {"kind": kind, "message": message})  # rank 0 knows the phase
    # At once: torch takes its time to tidy up, in which other ranks that are cut off from this one would end before it.
    os._exit(1)


def _run(asked: dict[str, Any], lines: queue.SimpleQueue[dict[str, Any]]) -> None:
    import torch

    from profiling.generation import Runner
    from profiling.loading import Inputs
    from profiling.ranks import join, together
    from profiling.shards import load_shard
    from profiling.spec import ModelSpec, Workload

    torch.set_num_threads(asked["threads"])
    device = torch.device("cuda", asked["rank"]) if asked["device"] == "cuda" else torch.device("cpu")
    model, workload = ModelSpec.from_json(asked["model"]), Workload.from_json(asked["workload"])
    join(asked["folder"], asked["rank"], asked["size"], device)
    loaded = load_shard(model, workload, device)
    runner: Runner | None = None
    while True:
        message = lines.get()
        if "inputs" in message:
            given = message["inputs"]
            ids = torch.tensor(given["ids"]).to(device)
            mask = None if given["mask"] is None else torch.tensor(given["mask"]).to(device)
            inputs = Inputs(ids, None, None, frozenset(given["stop"]), chat_template=False, mask=mask)
            runner = Runner(loaded, inputs, kind=model.kind, logits=workload.logits, device=device)
        together(device)
        getattr(runner, message["pass"])(*message["arguments"])


def _lines() -> queue.SimpleQueue[dict[str, Any]]:
    """The lines of stdin as they come. The thread behind it ends the process when stdin does."""
    found: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            found.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, name="lines", daemon=True).start()
    return found


def _say(asked: dict[str, Any], error: dict[str, Any]) -> None:
    from profiling.ranks import error_file

    path = Path(asked["folder"]) / error_file(asked["rank"])
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(error))
    beside.replace(path)  # whole, or not there


if __name__ == "__main__":
    main()
