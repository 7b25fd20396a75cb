"""What a failure inside transformers or torch means for whoever wrote the configuration: one sentence, standard library only.

Libraries speak to programmers ("'NoneType' object has no attribute 'items'"). A message that names a configuration's keys
already is kept; the others are translated by :data:`MEANINGS`, and the keys are read from the line of transformers that
failed, because that line is where the configuration is looked at.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from profiling.config_schema import known
from profiling.failures import without_paths

MAX_LENGTH = 300

#: How JSON calls what Python calls otherwise.
JSON_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "dict": "an object",
    "list": "a list",
    "tuple": "a list",
    "NoneType": "null",
    "PreTrainedConfig": "an object",
    "RopeParameters": "an object",
}

#: What was given instead of one of these.
_GIVEN = JSON_TYPES | {"float": "a fraction"}

_UNFIT = "sizes do not fit together"
_WRONG = "a value is missing or of the wrong type"
_TOO_LARGE = "a size is too large to be computed with"
_NOT_WHOLE = "a size is not a whole number"
_NEGATIVE = "a size comes out as negative"

#: (pattern of the message, what it means). ``\1`` stands for the pattern's first group. The first match counts.
MEANINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (
            r"cannot be raised to a negative power|(division|modulo)( or modulo)? by zero",
            "something is divided by a value that is 0",
        ),
        (r"Padding_idx must be within", '"pad_token_id" is not an entry of the vocabulary'),
        (r"^'?(\w+Config)'? object has no attribute '(\w+)'", r'it has no "\2", which this architecture needs'),
        (r"no attribute 'to_dict'", 'a nested configuration ("text_config", "encoder", "decoder") is not an object'),
        (r"k not in range|selected index k", "more is chosen from a list (a top-k) than it has"),
        (r"Unsupported dtype (\w+)", r"it cannot be computed in \1"),
        (r"function (.{0,60}) not found in", r"\1 is not an activation function that transformers knows"),
        (r"not supported between instances of|unsupported operand|bad operand type|unhashable type", _WRONG),
        (r"object (is not|has no|does not support|cannot be)|indices must be|not all arguments converted", _WRONG),
        (r"must be real number|can.t multiply sequence|can only concatenate|must be str|required argument", _WRONG),
        (r"missing \d+ required|unexpected keyword|positional argument|values to unpack|invalid literal", _WRONG),
        (r"could not convert string|can't convert|cannot convert|argument must be|expected str", _WRONG),
        (
            r"must be tuple of ints, but found|cannot be interpreted as an integer|expected Tensor as|must be (int|float|bool|Number)",
            _NOT_WHOLE,
        ),
        (
            r"must be tuple of (S|s)ymInts|must be (S|s)ymInt|incompatible function arguments|invalid combination of arguments",
            _NOT_WHOLE,
        ),
        (
            r"[Oo]verflow|too large|too big|out of range of|Result too large|math range error|exceeds the limit|exceeded the max",
            _TOO_LARGE,
        ),
        (r"can't allocate memory|not enough memory|Unable to allocate|array is too big|Maximum allowed", _TOO_LARGE),
        (
            r"negative dimension|non-negative|must be positive|negative value|negative shift|should be greater than zero",
            _NEGATIVE,
        ),
        (r"math domain error|complex", "a value is negative where that has no meaning"),
        (
            r"inconsistent with step sign|step must be nonzero|must not be zero",
            "a range of positions or sizes is empty or backwards",
        ),
        (
            r"index out of range|out of bounds|out of range \(expected|select\(\)|cannot select|Dimension out of range",
            "a list or a size is shorter than what it is used for",
        ),
        (
            r"meta_nonzero|data.dependent|\.item\(\) cannot be called on meta|meta tensor",
            "it depends on values, not on shapes alone",
        ),
        (
            r"expected scalar type|same dtype|expected m1 and m2|to have the same dtype|must match dtype|Expected .* dtype",
            "it mixes data types",
        ),
        (r"per-layer attribute", "its blocks differ in a value that must be the same for all"),
        (r"maximum recursion depth", "it is nested too deeply"),
        (
            r"shapes cannot be multiplied|must match the size|is invalid for input of size|expanded size|reduction dim",
            _UNFIT,
        ),
        (
            r"normalized_shape|broadcast|split_sizes|split_with_sizes|Sizes of tensors|inconsistent tensor size|unflatten",
            _UNFIT,
        ),
        (
            r"to be divisible|divisible by num_groups|number of channels|but got input of size|size mismatch|einsum|must be equal",
            _UNFIT,
        ),
        (
            r"to have \d+ channels|Kernel size|kernel size|must have the same number of dim|dims|tensors? to have|shape",
            _UNFIT,
        ),
    )
)

#: Messages of these types that no pattern knows are for programmers only; those of the others are worth reading.
_OPAQUE = (KeyError, AttributeError, TypeError, IndexError, NameError, AssertionError, StopIteration, UnboundLocalError)


def explain(error: BaseException | None, doing: str) -> str:
    """One sentence for ``error``: ``doing`` ("This configuration is not valid for llama"), a colon, and the reason."""
    reason = _reason(error).rstrip(" .:;,") if error is not None else "no reason is known"
    return f"{doing}: {reason}."


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None and "alidation error for" in str(error):
        error = error.__cause__  # the outer message names a validator, the inner one what is wrong
    text = " ".join(str(error).split())
    field = _field_error(text)
    if field:
        return field
    if isinstance(error, KeyError) and error.args:
        return _located(f"{_short(error.args[0])} is not a value that it knows", error)
    if isinstance(error, RecursionError):
        text = "maximum recursion depth"
    if not isinstance(error, (ValueError, AssertionError)) or _mentions_no_key(text):
        for pattern, meaning in MEANINGS:
            found = pattern.search(text)
            if found:
                sizes = _sizes(text) if meaning is _UNFIT else ""
                return _located(f"{found.expand(meaning)}{': ' if sizes else ''}{sizes}", error)
    if isinstance(error, _OPAQUE) and _mentions_no_key(text):
        return _located(_WRONG, error)
    return _cleaned(text) or _located("transformers refuses it without a reason", error)


# --- errors of transformers' typed fields -----------------------------------------------------------------------------


def _field_error(text: str) -> str | None:
    """``"hidden_size" must be a whole number, not a list`` from huggingface_hub's message about a field's type."""
    found = re.match(r"Field '([^']+)'", text)
    if not found:
        return None
    key = found.group(1)
    choices = re.search(r"expected one of \((.*?)\)", text)
    item = re.search(rf"Invalid item at index (\d+) in list '{re.escape(key)}'", text)
    if item:
        return f'item {int(item.group(1)) + 1} of "{key}" has the wrong type'
    wanted = dict.fromkeys(JSON_TYPES.get(name, "") for name in _wanted(key, text))
    wanted.pop("", None)
    if choices:
        wanted = {f"one of {_cleaned(choices.group(1))}": None, **wanted}
    got = re.search(r"got (\w+)", text)
    is_now = _GIVEN.get(got.group(1), "another value") if got and not choices else "what it is"
    if not wanted:
        return f'"{key}" has a value of the wrong type'
    return f'"{key}" must be {_either(list(wanted))}, not {is_now}'


def _wanted(key: str, text: str) -> Iterator[str]:
    for found in re.finditer(r"expected (?:a )?(\w+), got", text):
        yield found.group(1)


def _either(options: list[str]) -> str:
    return options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"


# --- which keys -------------------------------------------------------------------------------------------------------


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    """Frames of transformers' code in which ``error`` was raised, the innermost first, each at its failing line."""
    found = [(item.tb_frame, item.tb_lineno) for item in _tracebacks(error.__traceback__)]
    return [(frame, line) for frame, line in reversed(found) if "transformers" in frame.f_code.co_filename]


def _tracebacks(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _named(error: BaseException) -> list[str]:
    """Configuration keys in the innermost line of transformers that reads any."""
    _, keys = known()
    for frame, number in _frames(error):
        file, line = frame.f_code.co_filename, linecache.getline(frame.f_code.co_filename, number)
        holder = r"(?:self|config)" if "configuration" in file or "rope_utils" in file else r"config"
        if "configuration" in file and frame.f_code.co_name in keys:
            return [frame.f_code.co_name]  # what sets this key
        if "range(" in line:
            continue  # a loop over layers: the key is right, what is in the loop is not
        names = re.findall(rf"\b(?:\w*{holder})\.(\w+)", line) + re.findall(r"\w+(?:, |\[)['\"](\w+)['\"]", line)
        found = [name for name in dict.fromkeys(names) if name in keys]
        if not found and re.search(r"rope|rotary|compute_default", f"{file} {frame.f_code.co_name} {line}", re.I):
            found = ["rope_parameters"]
        if found:
            return found[:3]
    return []


def _class(error: BaseException) -> str | None:
    """Name of the innermost transformers module in whose code ``error`` was raised."""
    for frame, _ in _frames(error):
        holder = type(frame.f_locals.get("self"))
        if hasattr(holder, "forward") and "transformers" in holder.__module__:
            return holder.__name__
    return None


def _located(meaning: str, error: BaseException) -> str:
    """``meaning`` with the keys that it concerns, or else with the part of the model that it is said of."""
    keys, name = _named(error), _class(error)
    if keys:
        return f"{meaning} (see {_either([_short(key) for key in keys])})"
    return f"{meaning} (in {name})" if name else meaning


def _sizes(text: str) -> str:
    """The shapes that a message of torch speaks of."""
    shapes = dict.fromkeys(re.findall(r"\d+x\d+|\[\d+(?:, \d+)*\]", text)) or dict.fromkeys(
        re.findall(r"\b\d+\b", text)
    )
    return " and ".join(list(shapes)[:2])


def _mentions_no_key(text: str) -> bool:
    """Whether no word of ``text`` looks like the key of a configuration: lower case with an underscore, and known."""
    _, keys = known()
    words = set(re.findall(r"\w+", text)) - {"num_embeddings"}  # torch's own word
    return not any("_" in word and word in keys for word in words)


# --- text -------------------------------------------------------------------------------------------------------------


def _short(value: object) -> str:
    return f'"{str(value)[:60]}"'


def _cleaned(text: str) -> str:
    """The first sentence or two of a library's message without paths, markup and internals, at most MAX_LENGTH characters."""
    text = without_paths(text)
    for pattern, replacement in _CLEANING:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split())
    if len(text) > MAX_LENGTH:
        text = text[:MAX_LENGTH].rsplit(" ", 1)[0] + " …"
    return text


_Replacement = str | Callable[[re.Match[str]], str]
_CLEANING: tuple[tuple[re.Pattern[str], _Replacement], ...] = (
    (re.compile(r"<class '(?:[\w.]*\.)?(\w+)'>"), lambda match: JSON_TYPES.get(match[1], match[1])),
    (re.compile(r"<[^<>]* at 0x[0-9a-f]+>|torch\.Size\((\[[^\]]*\])\)"), r"\1"),
    (re.compile(r"`+"), '"'),
    (re.compile(r"\bself\.config\.|\bconfig\.|\bself\."), ""),
    (re.compile(r"\bNone\b"), "null"),
    (re.compile(r"(?<=[.!?])(?=[A-Z])"), " "),
)
