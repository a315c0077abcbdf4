"""`direct` and `delayed`: what makes functions of them is imported when there is the first one to make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

    from .context import Context
    from .functions import Delayed, Direct

P = ParamSpec("P")
T = TypeVar("T")


@overload
def direct(function: Callable[P, T], /) -> Direct[P, T]: ...
@overload
def direct(*, context: Context | None = None, **options: Any) -> Callable[[Callable[P, T]], Direct[P, T]]: ...
def direct(function: Any = None, /, *, context: Context | None = None, **options: Any) -> Any:
    """Make a function whose calls are found when anyone has computed them, and run otherwise.

    Parameters
    ----------
    function
        All of the user's own that it reaches counts: helpers, classes, constants.
    context
        Store and database; by default those of the configuration.
    **options
        As those of `bash`: ``cpus``, ``memory``, ``time_limit``, ``conda``, ``variables`` and so on; and
        ``ignore``, names of arguments that are passed on and do not count, and ``version``: with it the
        function counts by its name and this text, and its code does not count. ``format`` is that in which
        the result is kept, part of the identity. ``keep_inputs=False`` hashes arguments and stores none: the
        result is found, but is not made again without them.

    Raises
    ------
    UsageError
        For an option or an argument that does not exist, and a function whose results cannot be kept.
    """
    from .functions import Direct

    if function is None:
        return lambda each: Direct(each, options, context)
    return Direct(function, options, context)


@overload
def delayed(function: Callable[P, T], /) -> Delayed[P, T]: ...
@overload
def delayed(
    *, context: Context | None = None, **options: Any
) -> Callable[[Callable[P, T]], Delayed[P, T]]: ...
def delayed(function: Any = None, /, *, context: Context | None = None, **options: Any) -> Any:
    """Make a function whose calls are transformations, which compute when Dask is asked; see `direct`."""
    from .functions import Delayed

    if function is None:
        return lambda each: Delayed(each, options, context)
    return Delayed(function, options, context)
