"""``python -m profiling sweep``."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from profiling.cli import inputs
from profiling.spec import SpecError, Workload

#: Short names of options, as the other commands have them.
ALIASES = {
    "batch": "batch_size",
    "input": "input_tokens",
    "output": "output_tokens",
    "attention": "attn_implementation",
    "tp": "tensor_parallel",
    "pp": "pipeline_parallel",
    "ep": "expert_parallel",
    "dp": "data_parallel",
}
_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:([*+])(\d+))?")
#: Most values of one option on the command line.
_MOST = 1_000_000
FORMATS = ("csv", "json", "parquet")


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "sweep",
        help="estimates over a grid or a list of points, as a table",
        description="Estimate a model at many points: every combination of the values given, or the points of a file. Values are a "
        "list (1,2,4), a range (1..8, 128..1024+128) or a range that multiplies (128..8192*2). Points that differ in batch, lengths "
        "or device alone are answered by one closed form, which is kept for the next time.",
        epilog="example: python -m profiling sweep -m llama-3-70b -d nvidia-h100-sxm5-80gb,nvidia-h200-sxm-141gb --batch 1..64*2 "
        "--input-tokens 512..8192*2 --output-tokens 256 --tp 4,8 --weights-dtype bf16,int4 --file sweep.csv",
    )
    inputs.add_model(parser)
    parser.add_argument(
        "--hardware", "-d", required=True, metavar="SLUGS", help="devices of the catalogue, by slug or name"
    )
    group = parser.add_argument_group("workload, each with one or several values")
    short = {field: f"--{alias}" for alias, field in ALIASES.items()}
    for name in _options():
        flags = [f"--{name.replace('_', '-')}", *([short[name]] if name in short else [])]
        group.add_argument(*flags, dest=name, metavar="VALUES", help=f"default {getattr(Workload(), name)}")
    parser.add_argument(
        "--points",
        metavar="FILE",
        help="CSV with a header, or a JSON list of objects: one point each, whose columns are named like the options; "
        "the options above hold for what it does not say",
    )
    parser.add_argument(
        "--level", choices=("datasheet", "measured"), help="ceilings (default: measured where there are any)"
    )
    parser.add_argument(
        "--file",
        "-o",
        metavar="FILE",
        help="write the table there (.csv, .json or .parquet); default: CSV on standard output",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: by the name of the file")
    parser.add_argument(
        "--forms",
        metavar="DIR",
        type=Path,
        help="folder of closed forms (default: LLMCOMPARE_FORMS, or the user's cache)",
    )
    parser.set_defaults(run=run)


def _options() -> tuple[str, ...]:
    from profiling.sweep import OPTIONS

    return OPTIONS


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from profiling.forms.store import FormStore
    from profiling.sweep import grid, sweep

    kind = _format(arguments)
    model = inputs.model_spec(arguments)
    devices = [inputs.find_hardware(name) for name in arguments.hardware.split(",") if name]
    axes = {
        name: parse_values(name, getattr(arguments, name))
        for name in _options()
        if getattr(arguments, name) is not None
    }
    if arguments.points:
        base = Workload(**{name: _single(name, values) for name, values in axes.items()})
        points: list[dict[str, Any]] = list(read_points(Path(arguments.points)))
        names = [d.slug or d.name for d in devices]
        points = [
            p if "hardware" in p else {**p, "hardware": name}
            for p in points
            for name in ([""] if "hardware" in p else names)
        ]
    else:
        base = Workload()
        points = grid({"hardware": [d.slug or d.name for d in devices], **axes})
    with tqdm(total=len(points), unit="point", file=sys.stderr, disable=None, leave=False) as bar:
        table = sweep(
            model,
            devices,
            points,
            base,
            store=FormStore(arguments.forms),
            level=arguments.level,
            progress=lambda done: bar.update(done - bar.n),
        )
    try:
        write(table.rows(), list(table.columns), kind, arguments.file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SpecError(
            "file", f"{arguments.file or 'The table'} cannot be written: {error.strerror or error}."
        ) from error
    failed = sum(error is not None for error in table.columns["error"])
    if failed:
        print(f"note: {failed:,} of {len(table):,} points have no result; the column error says why.", file=sys.stderr)
    return 1 if failed == len(table) and failed else 0


def _format(arguments: argparse.Namespace) -> str:
    ending = Path(arguments.file).suffix.lstrip(".").lower() if arguments.file else "csv"
    kind = arguments.format or ending
    if kind not in FORMATS:
        raise SpecError(
            "file", f"{arguments.file!r} ends in none of .csv, .json, .parquet: name the format with --format."
        )
    if kind == "parquet" and not arguments.file:
        raise SpecError("file", "A Parquet table is no text: name a file with --file.")
    if arguments.file and not Path(arguments.file).resolve().parent.is_dir():
        raise SpecError(
            "file", f"{arguments.file} cannot be written: there is no folder {Path(arguments.file).parent}."
        )
    return kind


def parse_values(name: str, text: str) -> list[Any]:
    """The values of one option. Raises :class:`SpecError` on the option."""
    found: list[Any] = []
    for part in text.split(","):
        part = part.strip()
        match = _RANGE.fullmatch(part)
        if match:
            found += _range(name, int(match[1]), int(match[2]), match[3] or "+", int(match[4] or 1))
        else:
            found.append(convert(name, part))
    return list(dict.fromkeys(found))


def _range(name: str, first: int, last: int, sign: str, step: int) -> list[int]:
    if (sign == "*" and (step < 2 or first < 1)) or step < 1 or last < first:
        raise SpecError(
            name, f"{first}..{last}{sign}{step} is no range: it must grow from the first number to the last."
        )
    if sign == "+" and (last - first) // step > _MOST:
        raise SpecError(name, f"{first}..{last}+{step} has more than {_MOST:,} values.")
    values = []
    while first <= last:
        values.append(first)
        first = first * step if sign == "*" else first + step
    return values


def convert(name: str, text: str) -> Any:
    """One value of an option, from text. Raises :class:`SpecError` on the option."""
    types = {f.name: str(f.type) for f in fields(Workload)}
    kind = types[name]
    if "None" in kind and text.lower() in ("", "none"):
        return None
    try:
        if kind.startswith("int"):
            return int(text)
        if kind.startswith("float"):
            return float(text)
    except ValueError:
        what = "whole number" if kind.startswith("int") else "number"
        raise SpecError(name, f"{text!r} is no {what}.") from None
    return text


def _single(name: str, values: list[Any]) -> Any:
    if len(values) != 1:
        raise SpecError(name, "With --points, an option has one value, for the points that do not say.")
    return values[0]


def read_points(path: Path) -> Iterator[dict[str, Any]]:
    """The points of a CSV or JSON file. Raises :class:`SpecError` that names the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("points", f"{path} cannot be read: {error}.") from error
    if path.suffix.lower() == ".json":
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError("points", f"{path} is no JSON: {error}.") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SpecError("points", f"{path} must hold a list of objects.")
    else:
        rows = list(csv.DictReader(text.splitlines()))
    if not rows:
        raise SpecError("points", f"{path} has no points.")
    for number, row in enumerate(rows, 2):
        yield _point(path, number, row)


def _point(path: Path, number: int, row: Mapping[Any, Any]) -> dict[str, Any]:
    point = {}
    for key, value in row.items():
        name = ALIASES.get(str(key).strip().replace("-", "_"), str(key).strip().replace("-", "_"))
        if name == "hardware":
            point[name] = value
            continue
        if name not in _options():
            raise SpecError("points", f"{path}, line {number}: there is no option {str(key)[:60]!r}.")
        if isinstance(value, str):
            value = value.strip()
        if value is None or value == "":
            continue
        try:
            point[name] = convert(name, str(value))
        except SpecError as error:
            raise SpecError("points", f"{path}, line {number}: {name}: {error}") from error
    return point


# --- tables -----------------------------------------------------------------------------------------------------------


def write(rows: Iterable[dict[str, Any]], columns: list[str], kind: str, target: str | None) -> None:
    """The table as ``kind`` to a file, or to standard output."""
    if kind == "parquet":
        _write_parquet(list(rows), columns, str(target))
        return
    stream = open(target, "w", encoding="utf-8", newline="") if target else sys.stdout  # noqa: SIM115
    try:
        if kind == "csv":
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        else:
            json.dump(list(rows), stream, indent=1, allow_nan=False)
            stream.write("\n")
    finally:
        if target:
            stream.close()


def _write_parquet(rows: list[dict[str, Any]], columns: list[str], target: str) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: [row[name] for row in rows] for name in columns})
    pyarrow.parquet.write_table(table, target)
