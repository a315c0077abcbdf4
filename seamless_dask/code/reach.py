"""All of the user's own that a function reaches: each object becomes an item of the text, once."""

from __future__ import annotations

import ast
import builtins
import enum
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
    WrapperDescriptorType,
)
from typing import Any

from ..errors import NoIdentity, UsageError
from .border import Border, is_ours
from .class_made import has_state, refuse_changed, state_of
from .class_sources import class_source
from .classes import OF_CLASSES, ClassReader
from .data import MUTABLE, NoLiteral, is_immutable, is_scalar, literal
from .definitions import (
    add_attributes,
    add_attributes_of_wrapper,
    add_defaults,
    define_function,
    environment_of,
    setting,
)
from .expressions import expression
from .fallback import WEAKER, pickled, reason_of
from .guards import Checks
from .hazards import READS_DOCS, READS_HINTS
from .items import Describe, Item, Target
from .library import attribute, name_of, public_name
from .literals import Unprintable
from .markers import DECORATORS
from .names import Environment, NoValue, TreeReader, Variable, below_ours, decorator
from .owners import class_at, class_of, contains, is_by_its_name, is_known, may_give, meant, was_given
from .sources import SourceMissing, assigned, function_source, is_edited
from .stripping import Stripper
from .unwrapping import is_generated, layers, methods, plain_function

LARGE = 1 << 20
"""Text of a value of more bytes is an input instead."""
_LEFT_OUT = "{} of the module {}, which is used as a whole, is no value and is left out"


@dataclass(frozen=True)
class Findings:
    """What of all that is reached must be known before any of it is written down.

    Attributes
    ----------
    docs, hints
        Docstrings or annotations are read somewhere, and count.
    assigned
        Variables that are assigned to.
    shared
        Addresses of containers that stand in several others.
    """

    docs: bool = False
    hints: bool = False
    assigned: frozenset[Variable] = frozenset()
    shared: frozenset[int] = frozenset()


class Reach:
    """Finds what a function reaches.

    Parameters
    ----------
    border
        What is the user's.
    describe
        Makes bytes of values that are no plain ones.
    known
        What an earlier pass found out.
    """

    def __init__(self, border: Border, describe: Describe | None, known: Findings) -> None:
        self.border, self.docs, self.hints = border, known.docs, known.hints
        self.checks = Checks()
        self.words: set[str] = set()
        self.assigned: set[Variable] = set()
        self.shared: set[int] = set()
        self._known_assigned, self._known_shared = known.assigned, known.shared
        self._inlined: set[int] = set()
        self._describe = describe
        self._items: dict[tuple[object, ...], Item] = {}
        self._kept: list[object] = []
        self._waiting: deque[Callable[[], None]] = deque()
        self._main: Item | None = None
        self._tree: tuple[FunctionType, Any] | None = None

    def start(self, function: Any) -> Target:
        """Find all that a function reaches and return its own item.

        Raises
        ------
        NoIdentity
            It reaches what is no value.
        """
        try:
            target = self.bind(function, "function", {})
            self._main = main = target.item
            self._finish()
            if self._tree and any(use.item is main for item in self._items.values() for use in item.uses):
                # It is called by others too, who leave arguments out: its defaults are code then.
                self.checks.function(self._tree[0])
                add_defaults(self, main, *self._tree)
                self._finish()
        except NoValue as error:
            raise NoIdentity(str(error)) from None
        return target

    def known(self) -> Findings:
        """Return what is known after this pass."""
        return Findings(
            self.docs or bool(self.words & READS_DOCS),
            self.hints or bool(self.words & READS_HINTS),
            self._known_assigned | self.assigned,
            self._known_shared | self.shared,
        )

    def _finish(self) -> None:
        while self._waiting:
            self._waiting.popleft()()

    def bind(
        self, value: Any, hint: str, namespace: dict[str, Any], variable: Variable | None = None
    ) -> Target:
        """Return the item of an object that is called `hint` in a module, or of a variable that holds it."""
        if variable is not None and variable in self._known_assigned:
            # It may hold something else later, which others by that name or with that value shall not.
            item, new = self._item("value", hint, value, "variable", *variable)
            if new:
                is_literal = is_immutable(value)
                node = literal(value) if is_literal else item.named(self.bind(value, hint, namespace))
                item.body = [ast.Assign([item.own_name()], node)]
            return Target(item)
        return self._code(value, hint, namespace) or self._value(value, hint, namespace)

    def _item(self, kind: str, name: str, value: Any, *key: object) -> tuple[Item, bool]:
        """Return the item of a key, and whether it is new; objects are kept: addresses stay theirs."""
        item = self._items.get(key)
        if item is not None:
            return item, False
        self._kept.append(value)
        item = self._items[key] = Item(kind, _public(name), value)
        return item, True

    def _code(self, value: Any, hint: str, namespace: dict[str, Any]) -> Target | None:
        """Return the item of what counts by its code or by its name, None for data."""
        if is_scalar(value) or type(value) in (list, dict, set, tuple, frozenset):
            return None
        if isinstance(value, ModuleType):
            return self._module(value, hint)
        if isinstance(value, type):
            return self._class(value, hint, namespace)
        if is_ours(type(value).__module__) and attribute(value, "__wrapped__") is not None:
            return self._decorated(value, hint, namespace)
        if isinstance(value, FunctionType):
            return self._function(value, hint, namespace)
        if isinstance(value, MethodType):
            if (found := self._of_library(value, hint)) is not None:
                return found  # such as `random.shuffle`
            if attribute(value.__self__, value.__func__.__name__) != value:
                return Target(self._method(value, hint, namespace))
            owner = self.bind(value.__self__, f"{hint}_self", namespace)
            return Target(owner.item, (*owner.path, value.__func__.__name__))
        if isinstance(value, enum.Enum) and value.name in type(value).__members__:
            owner = self.bind(type(value), type(value).__name__, namespace)
            return Target(owner.item, (*owner.path, str(value.name)))
        if type(value) in (functools.partial, object):
            return None
        if isinstance(value, _OF_TYPES):
            return self._of_type(value, hint, namespace)
        return self._wrapper(value, hint, namespace) or self._of_library(value, hint)

    def _method(self, method: MethodType, hint: str, namespace: dict[str, Any]) -> Item:
        """Return the item of a method that its object does not give any more."""
        item, new = self._item("value", hint, method, "method", id(method.__func__), id(method.__self__))
        if new:
            places = [
                item.named(self.bind(each, f"{hint}_{part}", namespace))
                for part, each in (("function", method.__func__), ("self", method.__self__))
            ]
            kind = item.named(self.bind(MethodType, "MethodType", namespace))
            item.body = [ast.Assign([item.own_name()], ast.Call(kind, places, []))]
        return item

    def _decorated(self, value: Any, hint: str, namespace: dict[str, Any]) -> Target:
        """Return the item of what a decorator of ours made.

        A call of it returns what the function returns, or else (`delayed`) something that the code goes on
        with: then the decorator is code, as it is where its variables decide what is returned. In a run calls
        of both are asked for, but for what a function calls itself.
        """
        asked = attribute(value, "asked")
        if asked is None or not asked["delayed"]:
            target = self.bind(value.__wrapped__, hint, namespace)
            is_asked = asked is not None and not target.path and target.item is not self._main
            if not is_asked or not asked["counts"]:
                target.item.asked = target.item.asked or (asked if is_asked else None)
                return target
        item, new = self._item("value", hint, value, "object", id(value))
        if new:
            item.asked = asked
            self._waiting.append(lambda: self._decorate(item, value, namespace))
        return Target(item)

    def _decorate(self, item: Item, value: Any, namespace: dict[str, Any]) -> None:
        decorators = import_module(DECORATORS)
        maker = decorators.delayed if item.asked and item.asked["delayed"] else decorators.direct
        made, function = (
            item.named(self.bind(each, name_of(each, item.name), namespace))
            for each in (maker, value.__wrapped__)
        )
        if item.asked and (counts := item.asked["counts"]):
            made = ast.Call(made, [], [ast.keyword(name, literal(each)) for name, each in counts.items()])
        item.body = [ast.Assign([item.own_name()], ast.Call(made, [function], []))]

    def _of_type(self, value: Any, hint: str, namespace: dict[str, Any]) -> Target | None:
        """Return the item of a method that C code has: `str.upper`, `dict.fromkeys`, `", ".join`."""
        owner = getattr(value, "__objclass__", None) or value.__self__
        if owner is None or isinstance(owner, ModuleType):
            return self._of_library(value, hint)
        if (found := self._of_library(value, hint)) is not None:
            return found
        target = self.bind(owner, f"{hint}_self", namespace)
        return Target(target.item, (*target.path, value.__name__))

    def _module(self, module: ModuleType, hint: str) -> Target:
        if self.border.owns(module.__name__) or sys.modules.get(module.__name__) is not module:
            return Target(self._whole(module, hint))
        item, new = self._item("import", hint.rpartition(".")[2], module, "module", module.__name__)
        if new:
            item.origin = module.__name__
        return Target(item)

    def _whole(self, module: ModuleType, hint: str) -> Item:
        """Return the item of a module of the user's that is used as an object: all that it has counts."""
        item, new = self._item("module", hint.rpartition(".")[2], module, "module", id(module))
        if new:
            item.file = str(getattr(module, "__file__", "") or "")
            self._waiting.append(lambda: self._fill(item, module))
        return item

    def _fill(self, item: Item, module: ModuleType) -> None:
        namespace = vars(module)
        self.checks.size(namespace)
        kind = self.bind(ModuleType, "ModuleType", namespace)
        made = ast.Call(item.named(kind), [ast.Constant(item.name)], [])
        entries: dict[str, ast.expr] = {}
        for name in sorted(name for name in namespace if name == "__getattr__" or not _is_special(name)):
            value = namespace[name]
            self.checks.entry(namespace, name, value)
            try:
                target = self.bind(value, name, namespace)
            except NoValue:
                item.warn(ast.Pass(), _LEFT_OUT.format(name, module.__name__))
                continue
            if target.item is not item:
                entries[name] = item.named(target)
        update = ast.Attribute(ast.Attribute(item.own_name(), "__dict__", ast.Load()), "update", ast.Load())
        contents = ast.Dict([ast.Constant(name) for name in entries], list(entries.values()))
        item.body = [ast.Assign([item.own_name()], made), ast.Expr(ast.Call(update, [contents], []))]

    def _of_library(self, value: Any, hint: str) -> Target | None:
        """Return the item of something that a library's module has by a name."""
        name = name_of(value, "")
        if getattr(builtins, name, None) is value:
            item, _ = self._item("builtin", name, value, "builtin", name)
            item.origin = name
            return Target(item)
        found = public_name(value, hint)
        if found is None or self.border.owns(found[0]):
            return None
        module, path = found
        first, *rest = path.split(".")
        item, new = self._item("import", first, value, "name", module, first)
        if new:
            item.origin = f"{module}.{first}"
            item.body = [ast.ImportFrom(module, [ast.alias(first)], 0)]
        return Target(item, tuple(rest))

    def _function(self, function: FunctionType, hint: str, namespace: dict[str, Any]) -> Target | None:
        module = function.__globals__.get("__name__")
        is_users = self.border.owns(module) or module is None
        if hasattr(function, "__wrapped__"):
            wrapper = self._wrapper(function, hint, namespace)
            if wrapper is not None:
                return wrapper
        if not is_users:
            found = self._of_library(function, hint) or self._assigned(function, hint, namespace)
            if found is not None:
                return found
        if (owner := class_of(function)) is not None and is_users:
            target = self.bind(owner, owner.__name__, namespace)
            return Target(target.item, (*target.path, function.__name__))
        return self.apart(function, hint)

    def apart(self, function: FunctionType, hint: str) -> Target:
        """Return the item of a function by itself, though a class may have it."""
        name = hint if function.__name__ == "<lambda>" else function.__name__
        item, new = self._item("function", name, function, "object", id(function))
        if new:
            self._waiting.append(lambda: self._define(item, function, function, ()))
        return Target(item)

    def _wrapper(self, value: Any, hint: str, namespace: dict[str, Any]) -> Target | None:
        """Return the item of what decorators of others made of a function of the user's."""
        function = plain_function(value)
        if (
            function is None
            or function is value
            or not self.border.owns(function.__globals__.get("__name__"))
        ):
            return None
        try:
            found = function_source(function)
        except SourceMissing:
            return None
        if is_edited(function.__globals__):
            if isinstance(value, FunctionType) and self.border.owns(value.__globals__.get("__name__")):
                return None  # a closure of the user's, whose own code can be compared
            raise NoIdentity(
                f"{function.__name__} was decorated in {found.file}, which has been edited since it was"
                f" loaded: reload the module, or restart"
            )
        environment = environment_of(function, found)
        decorators = below_ours(getattr(found.node, "decorator_list", ()), environment)
        if layers(value) > len(decorators) or not is_by_its_name(value, function):
            made = self._assigned(value, hint, namespace)  # by a call: `fast = lru_cache(slow)`
            if made is not None or isinstance(value, FunctionType) or not decorators:
                return made
        if isinstance(value, FunctionType) and not self._makes(decorators, value, environment):
            return None
        if not all(is_known(node, environment) for node in decorators):
            return None if isinstance(value, FunctionType) else self._assigned(value, hint, namespace)
        item, new = self._item("function", function.__name__, value, "object", id(value))
        if new:
            self._waiting.append(lambda: self._define(item, value, function, decorators))
        return Target(item)

    def _makes(self, decorators: Sequence[ast.expr], value: FunctionType, environment: Environment) -> bool:
        """Tell whether one of the decorators makes such a wrapper; a library's are taken on trust."""
        if not self.border.owns(value.__globals__.get("__name__")):
            return True
        roots = [(node, plain_function(decorator(node, environment))) for node in decorators]
        return any(
            root is not None
            and contains(root.__code__, value.__code__)
            and was_given(node, root, value, environment)
            for node, root in roots
        )

    def _define(self, item: Item, value: Any, function: FunctionType, decorators: Sequence[ast.expr]) -> None:
        self.checks.function(function, with_defaults=item is not self._main)
        item.file, item.line = function.__code__.co_filename, function.__code__.co_firstlineno
        try:
            found = function_source(function)
            item.file, item.source = found.file, found.source
            tree = define_function(self, item, function, found, list(decorators))
        except (SourceMissing, Unprintable, RecursionError) as error:
            return self._pickle(item, reason_of(error))
        if item is self._main:
            self._tree = function, tree
        else:
            add_defaults(self, item, function, tree)
        if value is function:
            add_attributes(self, item, function)
            return None
        makers = [decorator(node, environment_of(function, found)) for node in decorators]
        add_attributes_of_wrapper(self, item, value, function, makers)
        if attribute(value, "registry") is not None and attribute(value, "dispatch") is not None:
            self._register(item, value)
        return None

    def _register(self, item: Item, value: Any) -> None:
        """Add the implementations that ``singledispatch`` knows: they are no part of its definition."""
        self.checks.described(value, _implementations, _implementations(value))
        for kind, function in value.registry.items():
            if kind is not object:
                register = ast.Attribute(item.own_name(), "register", ast.Load())
                places = [
                    item.named(self.bind(each, name_of(each, item.name), function.__globals__))
                    for each in (kind, function)
                ]
                item.body.append(ast.Expr(ast.Call(register, places, [])))

    def _class(self, owner: type, hint: str, namespace: dict[str, Any]) -> Target:
        if not self.border.owns(owner.__module__):
            found = self._of_library(owner, owner.__name__) or self._assigned(owner, hint, namespace)
            if found is not None:
                return found
        outer = class_at(owner.__module__, owner.__qualname__, owner)
        if outer is not None:
            target = self.bind(outer, outer.__name__, namespace)
            return Target(target.item, (*target.path, owner.__name__))
        item, new = self._item("class", owner.__name__, owner, "object", id(owner))
        if new:
            self._waiting.append(lambda: self._define_class(item, owner, hint, namespace))
        return Target(item)

    def _define_class(self, item: Item, owner: type, hint: str, namespace: dict[str, Any]) -> None:
        owners = [owner]
        try:
            found = class_source(owner)
            item.file, item.line, item.source = found.file, found.node.lineno, found.source
            owners = ClassReader(self, item, owner, found).define()
        except (SourceMissing, Unprintable, RecursionError) as error:
            self._must_make(item, owner, reason_of(error), hint, namespace)
        for each in owners:
            self._check_class(each)

    def _check_class(self, owner: type) -> None:
        if has_state(owner):
            self.checks.described(owner, state_of, state_of(owner))
        self.checks.type(owner)  # afterwards: Python 3.14 keeps annotations in a class asked for them
        for function in methods(owner):
            self.checks.function(function)

    def _must_make(self, item: Item, owner: type, reason: str, hint: str, namespace: dict[str, Any]) -> None:
        if not (self._named_tuple(item, owner) or self._made_class(item, owner, hint, namespace)):
            self._pickle(item, reason)

    def _made_class(self, item: Item, owner: type, hint: str, namespace: dict[str, Any]) -> bool:
        """Define what a call in the user's module made, `make_dataclass` say, and what came later."""
        try:
            refuse_changed(owner)
        except SourceMissing:
            return False
        found = assigned(hint, namespace)
        if not self._expression(item, hint, namespace):
            return False
        assert found is not None
        return self._put_later(
            item,
            owner,
            namespace,
            lambda value: may_give(found.node, namespace, value, self.border, found.imports),
        )

    def _put_later(
        self, item: Item, owner: type, namespace: dict[str, Any], is_given: Callable[[Any], bool]
    ) -> bool:
        """Add what was put into a class later; tell whether all could be."""
        for name, value in list(vars(owner).items()):
            if name in OF_CLASSES or isinstance(owner, enum.EnumMeta):
                continue
            function = plain_function(value)
            if function is None or is_generated(function):
                if is_immutable(value) and not name.startswith("_"):
                    item.body.append(setting(item, name, literal(value)))
            elif self.border.owns(function.__globals__.get("__name__")) and not is_given(value):
                if not isinstance(value, FunctionType) or class_of(value) is owner:
                    return False
                item.body.append(setting(item, name, item.named(self.bind(value, name, namespace))))
        return True

    def _named_tuple(self, item: Item, owner: type) -> bool:
        """Define what ``namedtuple`` made by calling it again."""
        fields = getattr(owner, "_fields", None)
        if owner.__bases__ != (tuple,) or not isinstance(fields, tuple) or not hasattr(owner, "_make"):
            return False
        from collections import namedtuple

        function = item.named(self.bind(namedtuple, "namedtuple", {}))
        names = ast.List([ast.Constant(name) for name in fields], ast.Load())
        made = ast.Call(function, [ast.Constant(owner.__name__), names], [])
        if defaults := owner.__new__.__defaults__:  # which may have been set there
            value = item.named(self.bind(defaults, f"{item.name}_defaults", {}))
            made.keywords.append(ast.keyword("defaults", value))
        item.body = [ast.Assign([item.own_name()], made)]
        return self._put_later(item, owner, {}, lambda value: False)

    def _assigned(self, value: Any, hint: str, namespace: dict[str, Any]) -> Target | None:
        """Return the item of something that a call in the user's module made: `fast = vectorize(slow)`."""
        for name, home in self._homes(value, hint, namespace):
            found = assigned(name, home)
            if found is not None and may_give(found.node, home, value, self.border, found.imports):
                item, new = self._item("value", hint, value, "object", id(value))
                if new:
                    self._waiting.append(functools.partial(self._must_express, item, name, home))
                return Target(item)
        return None

    def _homes(
        self, value: Any, hint: str, namespace: dict[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield where modules of the user's have an object, and by which names."""
        if namespace.get(hint) is value:
            yield hint, namespace
        for module in list(sys.modules.values()):
            if isinstance(module, ModuleType) and self.border.owns(module.__name__):
                for name, each in list(vars(module).items()):
                    if each is value:
                        yield name, vars(module)

    def _must_express(self, item: Item, name: str, namespace: dict[str, Any]) -> None:
        owner = item.value
        if isinstance(owner, type):
            self._must_make(item, owner, "there is no source of it", name, namespace)
            self._check_class(owner)
        elif not self._expression(item, name, namespace):
            self._pickle(item, "there is no source of it")

    def _expression(self, item: Item, hint: str, namespace: dict[str, Any]) -> bool:
        found = assigned(hint, namespace)
        if found is None or not isinstance(found.node, ast.expr) or namespace.get(hint) is not item.value:
            return False
        if (
            isinstance(found.node, (ast.Name, ast.Attribute))
            and meant(found.node, namespace) is not item.value
        ):
            return False  # in `kept = A` of a class that was defined anew since
        item.reset()
        item.file, item.line = found.file, found.node.lineno
        item.body = [
            ast.copy_location(
                ast.Assign([item.own_name()], Stripper(docs=True, hints=True).expression(found.node)),
                found.node,
            )
        ]
        tree = item.body[0].value  # type: ignore[attr-defined]
        # In `slow = lru_cache(slow)` the name on the right means what the call was given.
        inner = getattr(item.value, "__wrapped__", item.value)
        before = {
            id(node): inner for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == hint
        }
        TreeReader(self, item, Environment(namespace, {})).read(tree, "", [], before)
        return not any(use.item is item for use in item.uses)

    def _value(self, value: Any, hint: str, namespace: dict[str, Any]) -> Target:
        """Return the item of data: a literal where it is plain and not too large, an input otherwise."""
        key: tuple[object, ...] = "object", id(value)
        if is_immutable(value):
            key = "literal", hint, expression(literal(value))
        item, new = self._item("value", hint, value, *key)
        if id(value) in self._inlined:
            self.shared.add(id(value))
        if not new:
            return Target(item)
        try:
            node = self._literal(item, namespace)
        except NoLiteral:
            del self._items[key]
            self._items[key] = self._input(item)
            return Target(item)
        item.body = [ast.Assign([item.own_name()], node)]
        if self._describe is not None and len(expression(node)) > LARGE:
            with suppress(NoValue):
                self._input(item)
        return Target(item)

    def _literal(self, item: Item, namespace: dict[str, Any]) -> ast.expr:
        """Return the literal of an item."""

        def code(each: Any) -> ast.expr | None:
            if type(each) in MUTABLE:
                return self._part(each, item, namespace)
            target = self._code(each, name_of(each, item.name), namespace)
            return None if target is None else item.named(target)

        value = item.value
        if type(value) not in _CONTAINERS:
            return self._expressed(value, item, namespace) or literal(value, code)
        node = literal(value, code)
        if not is_immutable(value):
            self.checks.data(value)
        return node

    def _part(self, value: Any, item: Item, namespace: dict[str, Any]) -> ast.expr | None:
        """Return a place for a container in another one, if it stands elsewhere too: both are one object."""
        address = id(value)
        if address in self._known_shared:
            return item.named(self._value(value, f"{item.name}_part", namespace))
        if address in self._inlined or ("object", address) in self._items:
            self.shared.add(address)
        self._inlined.add(address)
        return None

    def _expressed(self, value: Any, item: Item, namespace: dict[str, Any]) -> ast.expr | None:
        """Return the expression of types and the like: aliases of types are no values, and need none."""
        if type(value).__module__ not in _TYPING or type(value) is SimpleNamespace:
            return None
        found = assigned(item.name, namespace)
        if found is None or namespace.get(item.name) is not value:
            return None
        node = found.node if isinstance(found.node, ast.expr) else found.node.value
        if node is found.node and not _still_means(node, namespace, value):
            return None
        if node is not found.node and found.node.type_params:
            return None
        tree = Stripper(docs=True, hints=True).expression(node)
        TreeReader(self, item, Environment(namespace, {})).read(tree, "", [], {})
        if node is found.node:
            return tree
        kind = item.named(self.bind(type(value), "TypeAliasType", namespace))  # `type Vector = list[float]`
        return ast.Call(kind, [ast.Constant(item.name), tree], [])

    def _input(self, item: Item) -> Item:
        """Make an item one of a value that only `describe` can make something of."""
        if self._describe is None:
            raise NoValue(item.name, item.value)
        try:
            answer = self._describe(item.value)
        except (TypeError, UsageError) as error:
            raise NoValue(item.name, item.value, str(error)) from None
        self.checks.described(item.value, self._describe, answer)
        item.reset()
        if isinstance(answer, str):
            tree = ast.parse(answer, mode="eval").body
            item.body = [ast.Assign([item.own_name()], tree)]
            item.free |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            return item
        item.kind, item.buffer = "input", answer
        for each in answer.uses:
            item.named(self.bind(each, name_of(each, item.name), {}))
        return item

    def _pickle(self, item: Item, reason: str) -> None:
        """Take something by value, because its source is not known."""
        item.buffer = pickled(item.value, self.border, item.name, reason)
        item.kind = "input"
        item.reset()
        item.warn(ast.Pass(), WEAKER.format(name=item.name, reason=reason))
        self.checks.never()


_TYPING = ("typing", "types", "typing_extensions")
_OF_ALIASES = (
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.Tuple,
    ast.List,
    ast.Constant,
    ast.BinOp,
    ast.BitOr,
    ast.Load,
)


def _still_means(node: ast.expr, namespace: dict[str, Any], value: object) -> bool:
    """Tell whether an alias of a type is what its expression gives; calls in it are taken on trust."""
    if not all(isinstance(each, _OF_ALIASES) for each in ast.walk(node)):
        return True
    try:
        found = eval(compile(ast.Expression(node), "", "eval"), namespace)  # noqa: S307 - names and indices
    except Exception:  # whatever a name may raise that means something else by now
        return False
    return bool(found == value)


_OF_TYPES = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)
_CONTAINERS = (list, dict, set, tuple, frozenset, bytearray, functools.partial)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _public(name: str) -> str:
    """Return a name that is no private one of a class: those mean something else inside one."""
    if not name.isidentifier():
        name = "function"
    return "_" + name.lstrip("_") if name.startswith("__") and not _is_special(name) else name


def _implementations(value: Any) -> list[tuple[object, object]]:
    return list(value.registry.items())
