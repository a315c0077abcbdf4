"""What the answers of a server mean to its client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hashserver.errors import (
    AuthenticationFailed,
    BufferCorrupt,
    BufferMissing,
    HashserverError,
    InvalidRequest,
    NoSpace,
    OriginalChanged,
    ReadOnly,
    ServiceUnavailable,
    TooLarge,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.client.connection import Response


def raise_for(response: Response, checksum: str, url: str) -> None:
    """Raise the error that an answer stands for, if any."""
    status = response.status
    if status < 300:
        return
    if status < 400:  # another server is not the one that the token is for
        response.__exit__()
        raise ServiceUnavailable(
            f"{url} sends its clients to another place, which none is followed to: name that"
        )
    try:
        message = str(json.loads(response.read())["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = f"{url} answered with status {status}"
    finally:
        response.__exit__()
    raise _meaning(status, message, checksum, url)


def json_of(response: Response, url: str) -> Any:
    """Return the JSON that an answer is; raises `ServiceUnavailable` where it is none."""
    try:
        return json.loads(response.read())
    except (ValueError, RecursionError):
        raise ServiceUnavailable(f"{url} does not answer as a hashserver does") from None


def _meaning(status: int, message: str, checksum: str, url: str) -> HashserverError:
    if checksum and status == 404:
        return BufferMissing(checksum, f"buffer {checksum} is not in {url}")
    if checksum and status == 400:
        return BufferCorrupt(checksum, message)
    if status == 410:
        return OriginalChanged(checksum, message)
    kinds: dict[int, Callable[[str], HashserverError]] = {
        401: AuthenticationFailed,
        403: ReadOnly,
        404: InvalidRequest,
        413: TooLarge,
        507: NoSpace,
    }
    kind = kinds.get(status, InvalidRequest if status < 500 and status != 408 else ServiceUnavailable)
    return kind(f"{message} ({url})" if url not in message else message)
