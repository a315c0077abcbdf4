"""What a running command asks for, whoever answers it: the scheduler, or a process of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hashserver.errors import InvalidChecksum

from ..errors import UsageError
from ..protocol.jobs import LONGEST_WAIT, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

_NO_REQUEST = (ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError, InvalidChecksum)


async def answered(answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Return an answer with its status as in HTTP, be it the one that says why there is none.

    Parameters
    ----------
    answer
        Gives ``body``, and more if need be; may raise `Refused`, and what a request raises that is none.
    """
    try:
        return {"status": 200, **await answer}
    except Refused as error:
        return {"status": error.status, "body": {"error": str(error)}}
    except _NO_REQUEST as error:
        return {"status": 400, "body": {"error": f"not a request of the jobserver: {error}"}}


def wait_of(facts: Mapping[str, Any]) -> float:
    """Return for how many seconds a command waits for an answer."""
    return min(max(0.0, float(facts.get("wait", 0.0))), LONGEST_WAIT)  # NaN is 0, in this order


def start_of(facts: Mapping[str, Any]) -> int:
    """Return from which byte on a command wants to see standard error."""
    return max(int(facts.get("start", 0)), 0)


def withdrawn(over: bool) -> dict[str, Any]:
    """Return the answer to a command that asks no more for a job, which may have been over."""
    return {"body": {"cancelled": over, "askers": []}}
