"""Which names of a definition mean something outside it.

The rules of Python's scopes, on a tree: what ``symtable`` tells by name is needed for each place where a name
stands.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Definition = FunctionNode | ast.ClassDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, eq=False)
class OuterName:
    """A place where a name stands that means something outside.

    Attributes
    ----------
    node
        The place.
    name
        The name as Python looks it up: private ones of a class are mangled.
    now
        It is read where the definition is executed, not where it is called.
    fixed
        It cannot be given another name: a class body has one of its own by it.
    """

    node: ast.Name
    name: str
    now: bool
    fixed: bool = False

    @property
    def stored(self) -> bool:
        """It is assigned to, or deleted."""
        return not isinstance(self.node.ctx, ast.Load)


@dataclass
class TreeNames:
    """What stands in a definition.

    Attributes
    ----------
    outside
        Names that mean something outside, in the order of the text.
    bound
        All names that any scope inside has of its own.
    declared
        Statements ``global`` and ``nonlocal`` whose names may be outside.
    imports
        Statements of import inside functions.
    """

    outside: list[OuterName] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    declared: list[ast.Global | ast.Nonlocal] = field(default_factory=list)
    imports: list[ast.Import | ast.ImportFrom] = field(default_factory=list)


@dataclass
class Scope:
    """The names that a function, a class or a comprehension has of its own; of a module they are not told."""

    parent: Scope | None = None
    is_class: bool = False
    bound: set[str] = field(default_factory=set)
    outer: set[str] = field(default_factory=set)
    """Declared ``global``."""
    between: set[str] = field(default_factory=set)
    """Declared ``nonlocal``."""
    stored: set[str] = field(default_factory=set)
    private: str = ""
    now: bool = True

    def has(self, name: str) -> bool:
        """Tell whether a name that stands here means something of this scope, or of one around it."""
        here: Scope | None = self
        while here is not None:
            if not here.is_class or here is self:
                if name in here.outer:
                    return False
                if name in here.bound and name not in here.between:
                    return True
            here = here.parent
        return False


def mangled(name: str, private: str) -> str:
    """Return a name as Python looks it up in the class called `private`."""
    if not private or not name.startswith("__") or name.endswith("__") or "." in name:
        return name
    owner = private.lstrip("_")
    return f"_{owner}{name}" if owner else name


def analyse(tree: ast.AST, private: str = "") -> TreeNames:
    """Return the names of a definition or expression that stands in a module, or in the class `private`."""
    visitor = _Visitor()
    visitor.visit(tree, Scope(private=private))
    return visitor.names


def scope_in(around: Iterable[Definition]) -> Scope:
    """Return the scope in which something stands, from the definitions around it, the outermost first."""
    scope = Scope()
    for node in around:
        scope = _inside(node, _of_types(node, scope), now=True)
    return scope


class _Visitor:
    def __init__(self) -> None:
        self.names = TreeNames()

    def visit(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.Name():
                self._name(node, scope)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._function(node, scope)
            case ast.ClassDef():
                self._class(node, scope)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node, scope)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr():
                self._assignment(node, scope)
            case ast.Global() | ast.Nonlocal():
                self.names.declared.append(node)
            case ast.Import() | ast.ImportFrom():
                self.names.imports.append(node)
            case _:
                self._all(ast.iter_child_nodes(node), scope)
        if scope.is_class:
            scope.stored.update(mangled(name, scope.private) for kind, name in _own(node) if kind == "bound")

    def _all(self, nodes: Iterable[ast.AST], scope: Scope) -> None:
        for node in nodes:
            self.visit(node, scope)

    def _name(self, node: ast.Name, scope: Scope) -> None:
        name = mangled(node.id, scope.private)
        if not scope.has(name):
            self.names.outside.append(OuterName(node, name, scope.now))
        elif scope.is_class and isinstance(node.ctx, ast.Load) and name not in scope.stored:
            # `x = x` in a class reads the outer one: Python looks in the class first, then outside.
            self.names.outside.append(OuterName(node, name, scope.now, fixed=True))

    def _assignment(self, node: ast.AST, scope: Scope) -> None:
        """Visit the value before what it is assigned to, as Python does."""
        children = sorted(
            ast.iter_child_nodes(node), key=lambda child: child is not getattr(node, "value", 0)
        )
        self._all(children, scope)

    def _function(self, node: FunctionNode, scope: Scope) -> None:
        inner = self._with_types(node, scope)
        if not isinstance(node, ast.Lambda):
            self._all(node.decorator_list, scope)
        given = node.args
        self._all([*given.defaults, *(each for each in given.kw_defaults if each)], scope)
        self._all((each.annotation for each in parameters(given) if each.annotation), inner)
        if not isinstance(node, ast.Lambda) and node.returns:
            self.visit(node.returns, inner)
        self._body(node, inner, now=False)

    def _class(self, node: ast.ClassDef, scope: Scope) -> None:
        self._all(node.decorator_list, scope)
        inner = self._with_types(node, scope)
        self._all([*node.bases, *node.keywords], inner)
        self._body(node, inner, now=scope.now)

    def _body(self, node: Definition, scope: Scope, now: bool) -> None:
        inside = _inside(node, scope, now)
        self.names.bound |= inside.bound
        self._all(_statements(node), inside)

    def _with_types(self, node: ast.AST, scope: Scope) -> Scope:
        inner = _of_types(node, scope)
        if inner is not scope:
            self.names.bound |= inner.bound
            self._all(getattr(node, "type_params", ()), inner)
        return inner

    def _comprehension(self, node: Comprehension, scope: Scope) -> None:
        first, *others = node.generators
        self.visit(first.iter, scope)
        inner = Scope(scope, private=scope.private, now=scope.now)
        for each in node.generators:
            inner.bound.update(mangled(name, scope.private) for name in _targets(each.target))
        self.names.bound |= inner.bound
        self._all([first.target, *first.ifs, *others], inner)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._all((part for part in parts if part is not None), inner)


def parameters(given: ast.arguments) -> list[ast.arg]:
    """Return the parameters of a function, those with a star last."""
    places = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [*places, *(each for each in (given.vararg, given.kwarg) if each)]


def _statements(node: Definition) -> Sequence[ast.AST]:
    return [node.body] if isinstance(node, ast.Lambda) else node.body


def _inside(node: Definition, parent: Scope, now: bool) -> Scope:
    """Return the scope of a function's or a class's own."""
    if isinstance(node, ast.ClassDef):
        parent = Scope(parent, bound={"__class__"}, private=node.name, now=now)
    scope = Scope(parent, isinstance(node, ast.ClassDef), private=parent.private, now=now)
    for kind, name in _bindings(_statements(node)):
        getattr(scope, kind).add(mangled(name, scope.private))
    scope.bound -= scope.outer | scope.between
    if not isinstance(node, ast.ClassDef):
        scope.bound.update(mangled(each.arg, scope.private) for each in parameters(node.args))
    return scope


def _of_types(node: ast.AST, scope: Scope) -> Scope:
    """Return the scope of the type parameters, where there are any."""
    given = getattr(node, "type_params", None)
    if not given:
        return scope
    return Scope(scope, bound={each.name for each in given}, private=scope.private, now=scope.now)


def binds(statement: ast.stmt, name: str) -> bool:
    """Tell whether a statement may give a name of its scope another meaning; ``import *`` may give any."""
    if isinstance(statement, ast.AnnAssign) and statement.value is None:
        return False
    return not {("bound", name), ("bound", "*")}.isdisjoint(_bindings([statement]))


def nodes_of(node: ast.ClassDef) -> Iterator[ast.AST]:
    """Yield what stands in a class body, in conditions and loops too, not in functions and classes there."""
    waiting: list[ast.AST] = list(node.body)
    for each in waiting:
        yield each
        waiting += _children(each)


def bound_in(node: ast.ClassDef) -> set[str]:
    """Return the names that a class body gives a value."""
    return {mangled(name, node.name) for kind, name in _bindings(node.body) if kind == "bound"}


def _targets(node: ast.AST) -> Iterator[str]:
    return (
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)
    )


def _bindings(body: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """Yield the names that some statements bind or declare in their own scope."""
    for node in body:
        yield from _own(node)
        yield from _bindings(_children(node))


def _own(node: ast.AST) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield "bound", name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield "bound", name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (("bound", each.asname or each.name.partition(".")[0]) for each in names)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield "bound", name
        case ast.MatchMapping(rest=str(name)):
            yield "bound", name
        case ast.Global(names=names):
            yield from (("outer", name) for name in names)
        case ast.Nonlocal(names=names):
            yield from (("between", name) for name in names)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node that belong to the same scope."""
    if isinstance(node, _COMPREHENSIONS):
        # Its own variables are not ours, but what `:=` in it binds is.
        yield from (each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr))
    elif isinstance(node, _FUNCTIONS):
        yield from getattr(node, "decorator_list", ())
        yield from (each for each in [*node.args.defaults, *node.args.kw_defaults] if each)
    elif isinstance(node, ast.ClassDef):
        yield from [*node.decorator_list, *node.bases, *node.keywords]
    else:
        yield from ast.iter_child_nodes(node)
