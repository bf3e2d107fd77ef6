"""The shop's code as Python sees it: which functions there are, and renaming one of them."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Function:
    """One function; `owner` is its class, `line` and `end` count from 1."""

    file: str
    name: str
    owner: str
    line: int
    end: int
    documented: bool
    text: str

    @property
    def title(self) -> str:
        """`Cart.count`, or `cents`."""
        return f"{self.owner}.{self.name}" if self.owner else self.name

    @property
    def place(self) -> str:
        """`teashop/cart.py:12`."""
        return f"{self.file}:{self.line}"


class CannotRename(ValueError):
    """Says why, in a sentence."""


def python_files(folder: Path) -> list[Path]:
    """Every Python file of a working copy, in order."""
    return sorted(
        path for path in folder.rglob("*.py") if ".git" not in path.relative_to(folder).parts
    )


def functions(folder: Path, *, under: str = "teashop") -> list[Function]:
    """All functions and methods below a folder, in the order of the files."""
    found = []
    for path in sorted((folder / under).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        try:
            tree = ast.parse(text)
        except SyntaxError:
            continue
        for node, owner in _owned(tree, ""):
            end = node.end_lineno or node.lineno
            found.append(
                Function(
                    file=str(path.relative_to(folder)),
                    name=node.name,
                    owner=owner,
                    line=node.lineno,
                    end=end,
                    documented=ast.get_docstring(node) is not None,
                    text="\n".join(lines[node.lineno - 1 : end]),
                )
            )
    return found


def _owned(
    tree: ast.AST, owner: str
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _owned(node, node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, owner


def find(folder: Path, name: str) -> Function | None:
    """The function of this name; `Cart.count` and `cart.count()` name it as well as `count`."""
    bare = name.removesuffix("()").rpartition(".")[2]
    for function in functions(folder):
        if function.title == name.removesuffix("()"):
            return function
    return next((one for one in functions(folder) if one.name == bare), None)


def words_of(folder: Path, under: str) -> set[str]:
    """Every name that the code below a folder uses."""
    words: set[str] = set()
    for path in sorted((folder / under).rglob("*.py")):
        words |= set(re.findall(r"[A-Za-z_]\w*", path.read_text(encoding="utf-8")))
    return words


def rename(folder: Path, old: str, new: str) -> dict[str, int]:
    """Rename a function wherever it is defined and used; files changed, with the number of places.

    Follows definitions, imports, calls and attributes through the syntax tree, so that a string, a
    comment or a local variable of the same name stays. In Markdown, names in backticks follow.
    Raises CannotRename.
    """
    if not new.isidentifier() or keyword.iskeyword(new) or new.startswith("__"):
        raise CannotRename(f"`{new}` cannot be the name of a function in Python.")
    names = {one.name for one in functions(folder)}
    if old not in names:
        raise CannotRename(f"There is no function `{old}` here.")
    if new == old:
        raise CannotRename(f"It is called `{old}` already.")
    if new in names or new in words_of(folder, "teashop"):
        raise CannotRename(f"`{new}` is taken: the code uses that name for something already.")
    return replace_everywhere(folder, old, new)


def replace_everywhere(folder: Path, old: str, new: str) -> dict[str, int]:
    """The edit of `rename` without its questions: for following a rename somebody else made."""
    changed = {}
    for path in python_files(folder):
        raw = path.read_bytes()
        try:
            places = _places(ast.parse(raw), old)
        except SyntaxError:
            continue
        if places:
            path.write_bytes(_replaced(raw, places, old.encode(), new.encode()))
            changed[str(path.relative_to(folder))] = len(places)
    for path in sorted(folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        fresh = re.sub(
            r"`[^`\n]+`",
            lambda span: re.sub(rf"(?<![\w/]){re.escape(old)}(?!\w|\.py\b)", new, span[0]),
            text,
        )
        if fresh != text:
            path.write_text(fresh, encoding="utf-8")
            changed[path.name] = 1
    return changed


def _places(tree: ast.Module, old: str) -> set[tuple[int, int]]:
    """(line, byte column) of the name itself, wherever it means the function."""
    places: set[tuple[int, int]] = set()
    outer = {node.name for node in tree.body if isinstance(node, Definition)} | {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, Definition) and node.name == old:
            skip = {"FunctionDef": 4, "AsyncFunctionDef": 10, "ClassDef": 6}[type(node).__name__]
            places.add((node.lineno, node.col_offset + skip))
        elif isinstance(node, ast.Attribute) and node.attr == old:
            end = node.end_col_offset or 0
            places.add((node.end_lineno or node.lineno, end - len(old.encode())))
        elif isinstance(node, ast.ImportFrom):
            places |= {(a.lineno, a.col_offset) for a in node.names if a.name == old}
    if old in outer:
        hidden = _hidden(tree, old)
        places |= {
            (node.lineno, node.col_offset)
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id == old and id(node) not in hidden
        }
    return places


def _hidden(tree: ast.Module, old: str) -> set[int]:
    """Names inside functions that have an argument or a variable called the same."""
    hidden: set[int] = set()
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        inside = list(ast.walk(scope))
        own = any(
            (isinstance(node, ast.arg) and node.arg == old)
            or (isinstance(node, ast.Name) and node.id == old and isinstance(node.ctx, ast.Store))
            for node in inside
        )
        if own:
            hidden |= {id(node) for node in inside if isinstance(node, ast.Name)}
    return hidden


def _replaced(raw: bytes, places: set[tuple[int, int]], old: bytes, new: bytes) -> bytes:
    lines = raw.splitlines(keepends=True)
    for line, column in sorted(places, reverse=True):
        text = lines[line - 1]
        if text[column : column + len(old)] == old:
            lines[line - 1] = text[:column] + new + text[column + len(old) :]
    return b"".join(lines)
