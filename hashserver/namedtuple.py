"""Named tuples like those of `typing`, for modules on the way of a cached ``seamless-run``.

`typing.NamedTuple` compiles source text for each class and each of its fields. With forty classes to be
defined that takes a tenth of a cached run, which makes a few tuples only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    from operator import itemgetter

    class _NamedTupleType(type):
        """Makes the annotations of a class body its fields."""

        def __new__(cls, name, bases, namespace):
            fields = tuple(namespace.get("__annotations__", ())) if bases[0] is not tuple else ()
            if fields and not hasattr(bases[0], "_fields"):
                namespace["_fields"] = namespace["__match_args__"] = fields
                defaults = {name: namespace[name] for name in fields if name in namespace}
                namespace["_field_defaults"] = defaults
                # each at its field's place, which is one of the last: those left out are a slice of it
                namespace["_filled"] = (None,) * (len(fields) - len(defaults)) + tuple(defaults.values())
                namespace["_required"] = len(fields) - len(defaults)
                namespace |= {field: property(itemgetter(place)) for place, field in enumerate(fields)}
            return super().__new__(cls, name, bases, {"__slots__": (), **namespace})

    class NamedTuple(tuple, metaclass=_NamedTupleType):
        """What named tuples have in common."""

        def __new__(cls, /, *values, **named):
            """Fill in what is named, and defaults."""
            fields = cls._fields
            if not named and cls._required <= len(values) <= len(fields):
                return tuple.__new__(cls, values + cls._filled[len(values) :])
            if len(values) < len(fields):
                known = cls._field_defaults | named
                missing = [field for field in fields[len(values) :] if field not in known]
                if missing:
                    raise TypeError(f"{cls.__name__}() lacks {', '.join(missing)}")
                values += tuple([named.pop(field, known[field]) for field in fields[len(values) :]])
            if named or len(values) > len(fields):
                raise TypeError(f"{cls.__name__}() has too many arguments")
            return tuple.__new__(cls, values)

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            said = ", ".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({said})"

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, /, **changes):
            made = tuple.__new__(type(self), map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"no fields: {', '.join(changes)}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))
