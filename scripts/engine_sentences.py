"""The sentences that the engine writes, found in its source: it imports no Django, so it cannot mark them itself.

A literal of at least two words is one, or a pattern: ``f"At most {limit} are possible."`` is kept with its placeholder. Left out is what
only programmers or programs read (docstrings, regular expressions, messages of registration).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

#: Files and folders of the engine whose texts the portal never shows: the command line, lists of operators, file formats.
NO_PEOPLE = ("cli/", "operators_plain.py", "graph_exports.py", "classes_data.py")
#: Literals that are no sentences: regular expressions and other code, messages to whoever extends the engine.
NO_SENTENCE = re.compile(
    r"[\\$]|\(\?|^\^|\.\*|\.\{|[a-z]\|[a-z]|^\s*[{<\[]\"|fontname|; charset|registered twice|^[\w]+=|^\n|^alidation|^-\w |"
    r"^Padding_idx|^no attribute|^per-layer attribute|maximum recursion|^normalized_shape|^math domain|is no operator class|"
    r"must be a transformers model|^\{base\} |^can't allocate memory$|^malformed line$|^llmcompare, |"
    # keys of other programs' files
    r"^(Device Type|External id|Input Dims|Input Strides|Input type|Total Allocated|Total Reserved|cpu MHz|model name|"
    r"est\. achieved occupancy %|registers per thread|shared memory|memory bandwidth \(GB/s\))$"
)
WORD = re.compile(r"[A-Za-z]{2,}")
PLACEHOLDER = re.compile(r"\{\w+\}")
#: Texts of one word that are part of sentences.
SHORT = re.compile(r"an? [a-z]+| \(\{\w+\} [a-z]+\)")
#: Values that are translated although they are single words: the names of what is measured and of its units.
WHOLE_FILES = ("units.py",)
#: Within those: what is a key, and no text.
KEYS = {"money", "token", "origin", "unit", "value"}


def sentences(folder: Path) -> set[str]:
    """Every sentence below ``folder``, with ``{name}`` where a value stands."""
    found = set()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if not name.startswith(NO_PEOPLE):
            found |= in_source(path.read_text(), single_words=name in WHOLE_FILES)
    return found


def in_source(code: str, *, single_words: bool = False) -> set[str]:
    tree = ast.parse(code)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        # Parts of a longer text stand in it.
        if isinstance(node, ast.JoinedStr):
            silent |= {id(part) for part in node.values}
        elif joined(node):
            silent |= {id(part) for part in ast.walk(node) if part is not node and joined(part)}
            silent |= {id(side) for part in ast.walk(node) if joined(part) for side in (part.left, part.right)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in silent or not (isinstance(node, ast.Constant | ast.JoinedStr) or joined(node)):
            continue
        text = pattern(node)
        if text is not None and is_sentence(text, single_words):
            found.add(text)
    return found


def joined(node: ast.AST) -> bool:
    """Whether it is a sum of texts: one sentence, written in parts."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and all(map(is_text, (node.left, node.right)))


def is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        or joined(node)
    )


def is_sentence(text: str, single_words: bool) -> bool:
    words = WORD.findall(PLACEHOLDER.sub("", text))
    if NO_SENTENCE.search(text):
        return False
    if single_words and " " not in text:
        return bool(re.fullmatch(r"[A-Za-z][a-z-]{3,}", text)) and text not in KEYS
    return (len(words) >= 2 and " " in text.strip()) or bool(SHORT.fullmatch(text))


def pattern(node: ast.AST) -> str | None:
    """The text of a literal; values are ``{name}``, named after what they are. None if it is no text."""
    names: dict[str, str] = {}

    def put(part: ast.AST) -> str:
        if isinstance(part, ast.Constant):
            return part.value if isinstance(part.value, str) else ""
        if isinstance(part, ast.BinOp):
            return put(part.left) + put(part.right)
        return "".join(v.value if isinstance(v, ast.Constant) else value(v) for v in part.values)

    def value(part: ast.FormattedValue) -> str:
        source = ast.unparse(part.value)
        if source not in names:
            base = slug(part.value)
            names[source] = (
                base if base not in names.values() else f"{base}{sum(n.startswith(base) for n in names.values()) + 1}"
            )
        return f"{{{names[source]}}}"

    if isinstance(node, ast.Constant) and not isinstance(node.value, str):
        return None
    return put(node)


def slug(node: ast.expr) -> str:
    """A word for an expression: what it is called, or the last name in it."""
    if isinstance(node, ast.Name):
        return node.id.lower()
    if isinstance(node, ast.Attribute):
        return node.attr.lower()
    if isinstance(node, ast.Call) and node.args:
        return slug(node.args[0])
    names = [
        n.id if isinstance(n, ast.Name) else n.attr for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)
    ]
    return names[0].lower() if names else "value"
