"""What Koji looks for, with places: rules on the syntax tree, not opinions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

LONG_LINES: Final = 12
VAGUE: Final = frozenset({"calc", "data", "do", "tmp", "foo", "stuff", "handle", "process", "val"})


@dataclass(frozen=True)
class Remark:
    """One remark; `line` counts from 1."""

    file: str
    line: int
    rule: str
    text: str
    function: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """The same remark after lines have moved."""
        return (self.file, self.rule, self.function or self.text)

    def __str__(self) -> str:
        return f"`{self.file}:{self.line}` {self.text}"


def look(file: str, text: str) -> list[Remark]:
    """Everything there is to say about one file, in the order of its lines."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return [Remark(file, error.lineno or 1, "syntax", f"this is not Python: {error.msg}")]
    return sorted(_remarks(file, tree), key=lambda remark: remark.line)


def _remarks(file: str, tree: ast.Module) -> Iterator[Remark]:
    if ast.get_docstring(tree) is None and tree.body:
        yield Remark(file, 1, "docstring", "the module does not say what it is for")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from _of_function(file, node)
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield Remark(file, node.lineno, "except", "a bare `except` hides every fault")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "print":
                yield Remark(file, node.lineno, "print", "a `print` was left behind")
            elif node.func.id == "float":
                yield Remark(file, node.lineno, "float", "a `float` loses cents: use `Decimal`")


def _of_function(file: str, node: ast.FunctionDef) -> Iterator[Remark]:
    name = node.name
    if ast.get_docstring(node) is None and not name.startswith("_"):
        yield Remark(file, node.lineno, "docstring", f"`{name}` has no docstring", name)
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > LONG_LINES:
        yield Remark(file, node.lineno, "long", f"`{name}` is {length} lines long", name)
    if name in VAGUE:
        said = f'`{name}` says too little; tell Nori "rename {name} to ..." and it is done'
        yield Remark(file, node.lineno, "name", said, name)
    for default in node.args.defaults:
        if isinstance(default, ast.List | ast.Dict | ast.Set):
            text = f"`{name}` keeps its default between two calls: it can be changed"
            yield Remark(file, default.lineno, "default", text, name)
