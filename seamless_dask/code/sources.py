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

from .literals import same_constant
from .scopes import mangled

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
TEXT_FILE = "<seamless>"
_CELLS = ("<ipython-input", "<python-input", "<stdin")
TEXT_OF = "__seamless_text__"
"""The global under which a module that was made from text keeps it."""
CODE_OF = "__seamless_code__"
"""And that under which it keeps all code that was compiled from it, by address."""
_STARTED = time.time()
_FUTURE = 0x1FE0000  # flags of `from __future__`
_TEXT_HINTS = 0x1000000
_FLAGS = 0x3AF  # star arguments, generator, coroutine; not how deep the function is nested
_FIELDS = (
    "co_name",
    "co_code",
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_exceptiontable",
)


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
    private
        The class around it, whose name mangles private ones.
    has_text_hints
        The file asks for annotations to be kept as text.
    imports
        Names that the file imports: Python compiles what is called of them in another way.
    """

    node: Any
    file: str
    lines: tuple[str, ...]
    private: str = ""
    has_text_hints: bool = False
    imports: tuple[str, ...] = ()

    @property
    def source(self) -> tuple[int, tuple[str, ...]]:
        """Where its text begins, and the lines of it."""
        first = min([self.node.lineno, *(each.lineno for each in getattr(self.node, "decorator_list", ()))])
        return first, self.lines[first - 1 : self.node.end_lineno]


class _Index:
    """The definitions of one source text."""

    def __init__(self, text: str) -> None:
        self.functions: dict[int, list[tuple[FunctionNode, str]]] = defaultdict(list)
        self.by_name: dict[str, list[tuple[FunctionNode, str]]] = defaultdict(list)
        self.classes: dict[str, list[tuple[ast.ClassDef, str]]] = defaultdict(list)
        self.known: dict[CodeType, tuple[Any, str]] = {}
        """Definitions of code that was looked for before; none where there is none."""
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
        self._walk(self.tree, "", "")

    def _walk(self, node: ast.AST, path: str, private: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                self.classes[path + child.name].append((child, private))
                self._walk(child, f"{path}{child.name}.", child.name)
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                name = "<lambda>" if isinstance(child, ast.Lambda) else child.name
                self.functions[_first_line(child)].append((child, private))
                self.by_name[name].append((child, private))
                self._walk(child, f"{path}{name}.<locals>.", private)
            else:
                self._walk(child, path, private)


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the names that a module itself imports."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in child.names)
        elif not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.expr)):
            yield from _imported(child)


@lru_cache(maxsize=64)
def _index(text: str) -> _Index:
    return _Index(text)


def _first_line(node: FunctionNode | ast.ClassDef) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(each.lineno for each in decorators)])


def source_lines(name: str, namespace: dict[str, Any]) -> tuple[str, ...]:
    """Return the lines of a file or of a notebook's cell; of what was made from text, the text's."""
    text = namespace.get(TEXT_OF)
    if isinstance(text, str):
        return tuple(text.splitlines(keepends=True))
    linecache.checkcache(name)
    return tuple(linecache.getlines(name, namespace))


def _indexed(name: str, namespace: dict[str, Any]) -> tuple[_Index, tuple[str, ...]]:
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
    index, lines = _indexed(code.co_filename, function.__globals__)
    is_text = TEXT_OF in function.__globals__
    found = index.known.get(code)
    if found is None:
        made = function.__globals__.get(CODE_OF, {}) if is_text else {}
        found = index.known[code] = _definition_of(code, index, is_text, id(code) in made)
    if found is _NOWHERE:
        raise SourceMissing(f"{code.co_filename} has been edited since it was loaded")
    node, private = found
    hints = index.has_text_hints or bool(code.co_flags & _TEXT_HINTS)
    return Found(node, TEXT_FILE if is_text else code.co_filename, lines, private, hints, index.imports)


_NOWHERE: tuple[Any, str] = (None, "")


def _definition_of(code: CodeType, index: _Index, is_text: bool, is_made: bool) -> tuple[Any, str]:
    if is_made and len(index.by_name[code.co_name]) == 1:
        # Compiled with the user's lines, in which equal parts may be one constant, it cannot be compared.
        return index.by_name[code.co_name][0]
    here = [] if is_text else index.functions.get(code.co_firstlineno, [])
    # A file that was edited above the function has it on another line.
    for node, private in [*here, *index.by_name.get(code.co_name, ())]:
        if matches(node, private, code, index.imports):
            return node, private
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
            head = file.read(16)
    except OSError:
        return False
    if len(head) < 16 or int.from_bytes(head[4:8], "little"):  # bytecode that is not checked by time
        return False
    time_and_size = int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF
    return time_and_size != (int.from_bytes(head[8:12], "little"), int.from_bytes(head[12:16], "little"))


def matches(node: FunctionNode, private: str, code: CodeType, imports: tuple[str, ...]) -> bool:
    """Tell whether a definition compiles to a code object that is loaded."""
    name = "<lambda>" if isinstance(node, ast.Lambda) else mangled(node.name, "")
    if name != code.co_name:
        return False
    try:
        made = _compiled(node, private, code, imports)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return any(_same_code(each, code) for each in made)


def _compiled(
    node: FunctionNode, private: str, code: CodeType, imports: tuple[str, ...]
) -> Iterator[CodeType]:
    """Yield the code of a definition, compiled where its free variables and its class are what they were."""
    statement: ast.stmt = _plain(node)
    if private or "__class__" in code.co_freevars:
        statement = ast.ClassDef(private or "_", [], [], [statement], [])
        _without_types(statement)
    free = [name for name in code.co_freevars if name.isidentifier() and name != "__class__"]
    if free:
        given = ast.arguments([], [ast.arg(name) for name in free], None, [], [], None, [])
        statement = ast.FunctionDef("_", given, [statement], [])
        _without_types(statement)
    known = [ast.Import([ast.alias("_", name)]) for name in imports if name != "*"]
    module = ast.fix_missing_locations(ast.Module([*known, statement], []))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outer = compile(module, code.co_filename, "exec", code.co_flags & _FUTURE, dont_inherit=True)
    return _inner(outer, code.co_name)


def _plain(node: FunctionNode) -> ast.stmt:
    """Return a definition without what is executed outside it: decorators, defaults, annotations."""
    given = node.args
    bare = ast.arguments(
        [_unannotated(each) for each in given.posonlyargs],
        [_unannotated(each) for each in given.args],
        _unannotated(given.vararg) if given.vararg else None,
        [_unannotated(each) for each in given.kwonlyargs],
        [None for _ in given.kwonlyargs],
        _unannotated(given.kwarg) if given.kwarg else None,
        [],
    )
    if isinstance(node, ast.Lambda):
        return ast.copy_location(ast.Expr(ast.copy_location(ast.Lambda(bare, node.body), node)), node)
    plain: Any = type(node)(node.name, bare, node.body, [], None)
    if hasattr(node, "type_params"):
        plain.type_params = node.type_params
    statement: ast.stmt = ast.copy_location(plain, node)
    return statement


def _unannotated(place: ast.arg) -> ast.arg:
    return ast.copy_location(ast.arg(place.arg), place)


def _without_types(node: Any) -> None:
    if "type_params" in node._fields:
        node.type_params = []


def _inner(code: CodeType, name: str) -> Iterator[CodeType]:
    """Yield the outermost code objects of a name."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            if each.co_name == name:
                yield each
            else:
                yield from _inner(each, name)


def _same_code(one: CodeType, other: CodeType) -> bool:
    return (
        all(getattr(one, name) == getattr(other, name) for name in _FIELDS)
        and one.co_flags & _FLAGS == other.co_flags & _FLAGS
        and len(one.co_consts) == len(other.co_consts)
        and all(_same_constant(a, b, one, other) for a, b in zip(one.co_consts, other.co_consts, strict=True))
    )


def _same_constant(one: Any, other: Any, left: CodeType, right: CodeType) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, CodeType):
        return _same_code(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(
            _same_constant(a, b, left, right) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if one == left.co_qualname and other == right.co_qualname:
        return True  # a class body names itself, by a way that is another one here
    return same_constant(one, other)


def class_source(owner: type) -> Found:
    """Find the definition of a class.

    Raises
    ------
    SourceMissing
        There is no source, or it is not what is loaded.
    """
    reason = "there is no source of it"
    for name, namespace in _files(owner):
        try:
            index, lines = _indexed(name, namespace)
        except SourceMissing as error:
            reason = str(error)
            continue
        if is_edited(namespace):
            reason = f"{name} has been edited since it was loaded"
            continue
        candidates = index.classes.get(owner.__qualname__, [])
        line = owner.__dict__.get("__firstlineno__")
        candidates = sorted(candidates, key=lambda each: (_first_line(each[0]) == line, each[0].lineno))
        for node, private in reversed(candidates):
            if _is_of(node, owner, name, index.imports):
                return Found(node, name, lines, private, index.has_text_hints, index.imports)
            reason = f"{name} has been edited since it was loaded"
    raise SourceMissing(reason)


def _files(owner: type) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where a class may be defined: the files of its methods, its module's, the cells of a notebook."""
    module = sys.modules.get(owner.__module__)
    namespace = vars(module) if module else {}
    seen = set()
    for function in methods(owner):
        if function.__qualname__.startswith(owner.__qualname__ + ".") and not is_generated(function):
            seen.add(function.__code__.co_filename)
            yield function.__code__.co_filename, function.__globals__
    if TEXT_OF in namespace:
        yield TEXT_FILE, namespace
    elif namespace.get("__file__") not in (None, *seen):
        yield str(namespace["__file__"]), namespace
    if owner.__module__ == "__main__":
        cells = [name for name in linecache.cache if name.startswith("<") or "ipykernel" in name]
        yield from ((name, namespace) for name in reversed(cells) if name not in seen)


def _is_of(node: ast.ClassDef, owner: type, file: str, imports: tuple[str, ...]) -> bool:
    """Tell whether a class may have been made from a statement; what was put into it later does not count."""
    for statement in node.body:
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        function = plain_function(owner.__dict__.get(mangled(statement.name, node.name)))
        if function is None or function.__qualname__ != f"{owner.__qualname__}.{statement.name}":
            continue
        if file not in (function.__code__.co_filename, TEXT_FILE):
            continue
        code = function.__code__
        if not any(matches(each, node.name, code, imports) for each in _of_name(node, statement.name)):
            return False
    fields = list(dict.fromkeys(_fields(node)))
    return fields == _loaded_fields(owner, fields)


def _of_name(node: ast.ClassDef, name: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return all methods of a name: a property has a getter and a setter."""
    return [
        each
        for each in node.body
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == name
    ]


def _fields(node: ast.ClassDef) -> list[str]:
    return [
        mangled(each.target.id, node.name)
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.simple
    ]


def _loaded_fields(owner: type, otherwise: list[str]) -> list[str]:
    if sys.version_info >= (3, 14):
        import annotationlib

        try:
            return list(annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF))
        except Exception:  # whatever an annotation raises
            return otherwise
    return list(vars(owner).get("__annotations__", ()))  # to ask the class would make an empty one


def methods(owner: type) -> Iterator[FunctionType]:
    """Yield the functions of a class's own."""
    for value in owner.__dict__.values():
        function = plain_function(value)
        if function is not None:
            yield function


def plain_function(value: Any) -> FunctionType | None:
    """Return the function that decorators and descriptors lie around."""
    for _ in range(20):
        if isinstance(value, FunctionType) and not hasattr(value, "__wrapped__"):
            return value
        inner = None
        for name in ("__wrapped__", "__func__", "fget", "py_func", *_of_functools(value)):
            inner = inner if inner is not None else _attribute(value, name)
        if inner is None or inner is value:
            return value if isinstance(value, FunctionType) else None
        value = inner
    return None


def is_generated(function: FunctionType) -> bool:
    """Tell whether a library wrote the source of a function, as `dataclass` and `attrs` do."""
    name = function.__code__.co_filename
    return name.startswith("<") and name != TEXT_FILE and not name.startswith(_CELLS)


def layers(value: Any) -> int:
    """Return how many objects lie around a function."""
    number = 0
    while number < 20 and (inner := _attribute(value, "__wrapped__")) is not None:
        value, number = inner, number + 1
    return number


def _of_functools(value: Any) -> tuple[str, ...]:
    return ("func",) if type(value).__module__ == "functools" else ()


def _attribute(value: Any, name: str) -> Any:
    """Return what an object has by a name, without running ``__getattr__`` of the user's."""
    try:
        return object.__getattribute__(value, name)
    except Exception:
        return None


def assigned(name: str, namespace: dict[str, Any]) -> Found | None:
    """Find the expression that was assigned last to a global: `fast = vectorize(slow)`."""
    cells = [each for each in linecache.cache if each.startswith("<") or "ipykernel" in each]
    files = [
        str(namespace.get("__file__") or (TEXT_FILE if TEXT_OF in namespace else "")),
        *(reversed(cells) if namespace.get("__name__") == "__main__" else ()),
    ]
    for file in files:
        if not file or (file == namespace.get("__file__") and is_edited(namespace)):
            continue
        try:
            index, lines = _indexed(file, namespace)
        except SourceMissing:
            continue
        for node in reversed(index.tree.body):
            match node:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    return Found(value, file, lines, "", index.has_text_hints)
            alias = getattr(node, "name", None) if type(node).__name__ == "TypeAlias" else None
            if isinstance(alias, ast.Name) and alias.id == name:
                return Found(node, file, lines, "", index.has_text_hints)
    return None
