"""From what is loaded to its syntax tree, and whether that is the tree that it was made from.

``inspect.getsource`` reads what lies in the file today, and takes the first lambda of a line for any of them.
Here a tree is only taken when it compiles to the code object that is loaded.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from .markers import CODE_OF, TEXT_FILE, TEXT_OF
from .matching import matches
from .scopes import Definition, FunctionNode, binds

_STARTED = time.time()
_TEXT_HINTS = 0x1000000
Around = tuple[Definition, ...]


class SourceMissing(Exception):
    """There is no source of something, or not the one that it was made from; the text says which."""


@dataclass(frozen=True)
class Found:
    """A definition in its file.

    Attributes
    ----------
    node
        Its tree, which belongs to the file's and is not to be changed.
    file
        The name of the file.
    lines
        All lines of the file.
    around
        The definitions in which it stands, the outermost first.
    has_text_hints
        The file asks for annotations to be kept as text.
    imports
        Names that the file imports: Python compiles what is called of them in another way.
    """

    node: Any
    file: str
    lines: tuple[str, ...]
    around: Around = ()
    has_text_hints: bool = False
    imports: tuple[str, ...] = ()

    @property
    def private(self) -> str:
        """The class around it, whose name mangles private ones."""
        return _private(self.around)

    @property
    def source(self) -> tuple[int, tuple[str, ...]]:
        """Where its text begins, and the lines of it."""
        first = first_line(self.node)
        return first, self.lines[first - 1 : self.node.end_lineno]


class SourceIndex:
    """The definitions of one source text."""

    def __init__(self, text: str) -> None:
        self.functions: dict[int, list[tuple[FunctionNode, Around]]] = defaultdict(list)
        self.by_name: dict[str, list[tuple[FunctionNode, Around]]] = defaultdict(list)
        self.classes: dict[str, list[tuple[ast.ClassDef, Around]]] = defaultdict(list)
        self.known: dict[CodeType, tuple[Any, Around]] = {}
        """Definitions of code that was looked for before; none where there is none."""
        self.rebound: set[str] = set()
        """Globals that functions may assign to."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes: the user has seen them
            self.tree = ast.parse(text)
        self.has_text_hints = any(
            isinstance(node, ast.ImportFrom)
            and node.module == "__future__"
            and node.names[0].name == "annotations"
            for node in self.tree.body
        )
        self.imports = tuple(dict.fromkeys(_imported(self.tree)))
        self._walk(self.tree, "", ())

    def _walk(self, node: ast.AST, path: str, around: Around) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                self.classes[path + child.name].append((child, around))
                self._walk(child, f"{path}{child.name}.", (*around, child))
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                name = "<lambda>" if isinstance(child, ast.Lambda) else child.name
                self.functions[first_line(child)].append((child, around))
                self.by_name[name].append((child, around))
                self._walk(child, f"{path}{name}.<locals>.", (*around, child))
            else:
                if isinstance(child, ast.Global):
                    self.rebound.update(child.names)
                self._walk(child, path, around)


def _private(around: Around) -> str:
    return next((each.name for each in reversed(around) if isinstance(each, ast.ClassDef)), "")


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the names that a module itself imports."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in child.names)
        elif not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            yield from _imported(child)


@lru_cache(maxsize=64)
def _index(text: str) -> SourceIndex:
    return SourceIndex(text)


def first_line(node: Any) -> int:
    """Return the line in which a definition or expression begins, with its decorators."""
    first: int = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    return first


def cells(namespace: dict[str, Any]) -> list[str]:
    """Return the files that cells of a notebook have, the last that ran first.

    A cell that runs again keeps its file, and its place among them: the history tells which ran last.
    """
    names = [name for name in reversed(list(linecache.cache)) if name.startswith("<") or "ipykernel" in name]
    history = namespace.get("_ih")
    if isinstance(history, list):
        ran = {str(text).strip(): number for number, text in enumerate(history)}
        names.sort(key=lambda name: -ran.get("".join(linecache.getlines(name)).strip(), -1))
    return names


def _is_main(namespace: dict[str, Any]) -> bool:
    main = sys.modules.get("__main__")
    return main is not None and vars(main) is namespace


def source_lines(name: str, namespace: dict[str, Any]) -> tuple[str, ...]:
    """Return the lines of a file or of a notebook's cell; of what was made from text, the text's."""
    text = namespace.get(TEXT_OF)
    if isinstance(text, str):
        return tuple(text.splitlines(keepends=True))
    linecache.checkcache(name)
    return tuple(linecache.getlines(name, namespace))


def index_of(name: str, namespace: dict[str, Any]) -> tuple[SourceIndex, tuple[str, ...]]:
    """Return the definitions of a file and its lines.

    Raises
    ------
    SourceMissing
        There is none, or it is no Python.
    """
    lines = source_lines(name, namespace)
    if not lines:
        raise SourceMissing("there is no source of it")
    try:
        return _index("".join(lines)), lines
    except (SyntaxError, ValueError, RecursionError):
        raise SourceMissing(f"{name} has been edited since, and is no Python any more") from None


def function_source(function: FunctionType) -> Found:
    """Find the definition of a function.

    Raises
    ------
    SourceMissing
        There is no source, or it is not what is loaded.
    """
    code = function.__code__
    index, lines = index_of(code.co_filename, function.__globals__)
    is_text = TEXT_OF in function.__globals__
    found = index.known.get(code)
    if found is None:
        made = function.__globals__.get(CODE_OF, {}) if is_text else {}
        found = index.known[code] = _definition_of(code, index, is_text, id(code) in made)
    if found is _NOWHERE:
        raise SourceMissing(f"{code.co_filename} has been edited since it was loaded")
    node, around = found
    hints = index.has_text_hints or bool(code.co_flags & _TEXT_HINTS)
    return Found(node, TEXT_FILE if is_text else code.co_filename, lines, around, hints, index.imports)


_NOWHERE: tuple[Any, Around] = (None, ())


def _definition_of(code: CodeType, index: SourceIndex, is_text: bool, is_made: bool) -> tuple[Any, Around]:
    if is_made and len(index.by_name[code.co_name]) == 1:
        # Compiled with the user's lines, in which equal parts may be one constant, it cannot be compared.
        return index.by_name[code.co_name][0]
    here = [] if is_text else index.functions.get(code.co_firstlineno, [])
    # A file that was edited above the function has it on another line.
    for node, around in [*here, *index.by_name.get(code.co_name, ())]:
        if matches(node, _private(around), code, index.imports):
            return node, around
    return _NOWHERE


def is_edited(namespace: dict[str, Any]) -> bool:
    """Tell whether a file is known to be another one than the module was made from.

    Only functions can be compared with what is loaded; decorators, base classes and the expressions of a
    module leave no code behind. For those this asks whether the file is the one of which the import wrote the
    bytecode; a script is asked for its time. Where there is no bytecode nothing is known.
    """
    name = namespace.get("__file__")
    if not isinstance(name, str) or TEXT_OF in namespace:
        return False
    try:
        found = os.stat(name)
        if namespace.get("__name__") == "__main__":
            return found.st_mtime > _STARTED
        with open(str(namespace.get("__cached__")), "rb") as file:
            head, written = file.read(16), os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return False
    if len(head) < 16 or int.from_bytes(head[4:8], "little"):  # bytecode that is not checked by time
        return False
    time_and_size = int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF
    told = int.from_bytes(head[8:12], "little"), int.from_bytes(head[12:16], "little")
    return time_and_size != told or found.st_mtime_ns > written  # in the same second, to the same size


def assigned(name: str, namespace: dict[str, Any]) -> Found | None:
    """Find the expression that was assigned last to a global: `fast = vectorize(slow)`."""
    file_of_all = str(namespace.get("__file__") or (TEXT_FILE if TEXT_OF in namespace else ""))
    # What is typed after a script has run, by `python -i`, comes later than all of it.
    for file in [*(cells(namespace) if _is_main(namespace) else ()), file_of_all]:
        if not file or (file == namespace.get("__file__") and is_edited(namespace)):
            continue
        try:
            index, lines = index_of(file, namespace)
        except SourceMissing:
            continue
        last = next((node for node in reversed(index.tree.body) if binds(node, name)), None)
        if last is not None:
            node = None if name in index.rebound else _expression_of(last, name)
            if node is None:
                return None
            return Found(node, file, lines, (), index.has_text_hints, index.imports)
    return None


def _expression_of(statement: ast.stmt, name: str) -> ast.AST | None:
    """Return what a statement always gives a name, None where that is not known: in a loop, a condition."""
    match statement:
        case ast.Assign(targets=targets, value=value):
            return value if any(isinstance(each, ast.Name) and each.id == name for each in targets) else None
        case ast.AnnAssign(value=value):
            return value
    return statement if type(statement).__name__ == "TypeAlias" else None
