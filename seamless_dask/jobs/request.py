"""What one has asked for, whoever runs it, and what follows from what all have asked for."""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import Checksum
from hashserver.errors import InvalidChecksum

from ..errors import UsageError
from ..locks import birth
from ..model.options import Options
from ..protocol.jobs import MOST_JOBS, PROTOCOL, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

_ASKER = re.compile(r"[\w.:+-]{1,200}")
_WISHES = ("need_bytes", "fresh", "detached")


class JobRequest(NamedTuple):
    """What one asker has asked for.

    Attributes
    ----------
    key : Checksum
        Of the transformation.
    options : Options
        How it is to be run, with this one's limits.
    need_bytes : bool
        It needs the bytes of the result, not just the name: they are made again if they are gone.
    detached : bool
        It will not come back to hear how it ended.
    asker : str
        Its name, as `own_name` gives it or it has given itself; empty as long as nobody has to know it.
    outer : str
        The job of this host whose command asks; empty: none does.
    """

    key: Checksum
    options: Options = Options()
    need_bytes: bool = False
    detached: bool = False
    asker: str = ""
    outer: str = ""

    @property
    def fresh(self) -> bool:
        """Whether a result on record is not enough."""
        return self.options.fresh

    @property
    def keeps(self) -> bool:
        """Whether it wants the bytes kept."""
        return self.need_bytes or not self.options.scratch

    def message(self) -> dict[str, Any]:
        """Return it as a jobserver is sent it."""
        told = {**self._asdict(), "options": json.loads(self.options.to_json()), "fresh": self.fresh}
        del told["outer"]  # nothing to whoever has other jobs
        return told

    @classmethod
    def from_message(cls, message: Any) -> JobRequest:
        """Read what `message` returned, or others have sent.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError, UsageError, InvalidChecksum
            It is none.
        """
        need_bytes, fresh, detached = (message.get(name, False) for name in _WISHES)
        if not all(isinstance(value, bool) for value in (need_bytes, fresh, detached)):
            raise TypeError("need_bytes, fresh and detached are true or false")
        if not isinstance(message["asker"], str) or not _ASKER.fullmatch(message["asker"]):
            raise TypeError("a name of an asker has up to 200 letters, digits and .:+-_")
        options = Options.from_json(json.dumps(message.get("options", {})))
        # whoever sends one is another process: what is to run there does, and asks nobody
        options = options._replace(fresh=fresh, run="process")
        return cls(Checksum(message["key"]), options, need_bytes, detached, message["asker"])

    def to_file(self) -> bytes:
        """Return what stands in a file whose place says the rest: who asks, and for what."""
        wishes = {name: getattr(self, name) for name in _WISHES}
        outer = {"outer": self.outer} if self.outer else {}
        return json.dumps({"options": self.options.to_json(), **wishes, **outer}).encode()

    @classmethod
    def from_file(cls, asker: str, key: Checksum, data: bytes) -> JobRequest:
        """Read what `to_file` returned."""
        document = json.loads(data)
        options = Options.from_json(document["options"])
        options = options._replace(fresh=document["fresh"] or options.fresh)
        needs, detached = document["need_bytes"], document["detached"]
        return cls(key, options, needs, detached, asker, document.get("outer", ""))


def requests_in(body: bytes, here: str = "this daskserver") -> list[JobRequest]:
    """Read what is posted to a jobserver; `here` is who answers.

    Raises
    ------
    Refused
        It is of another version, too much, or no request.
    """
    try:
        document = json.loads(body)
        jobs = document["jobs"]
        if document.get("protocol") != PROTOCOL:
            raise Refused(409, _other_version(document.get("protocol"), here))
        if len(jobs) > MOST_JOBS:
            raise Refused(413, f"more than {MOST_JOBS} jobs at once: send fewer")
        return [JobRequest.from_message(one) for one in jobs]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused(400, f"not a request of the jobserver: {error!r}") from None
    except (UsageError, InvalidChecksum) as error:
        raise Refused(400, str(error)) from None


def _other_version(protocol: object, here: str) -> str:
    number = protocol if isinstance(protocol, int) else 0
    return (
        f"the client speaks protocol {number} of the jobserver, {here} {PROTOCOL}:"
        " install the same version of seamless-dask on both"
    )


def own_name() -> str:
    """Return a new name for this process as one who asks; others can tell by it whether that lives."""
    own = os.getpid()
    return f"{os.uname().nodename}-{own}-{birth(own)}-{time.time_ns()}"


def is_dead(asker: str) -> bool:
    """Whether an asker's process is known to be dead: it was on this host and is no more."""
    try:
        host, process, born, _ = asker.rsplit("-", 3)
        return host == os.uname().nodename and birth(int(process)) != int(born)
    except ValueError:  # not a name that we give
        return False


def agreed(requests: Sequence[JobRequest]) -> Options:
    """Return how to run it for all: as the first has asked, with limits that nobody's are below."""
    options = [request.options for request in requests] or [Options()]
    times, memories = ([getattr(one, name) for one in options] for name in ("time_limit", "memory"))
    return options[0]._replace(
        time_limit=None if None in times else max(times),
        memory=None if None in memories else max(memories),
        scratch=bool(requests) and not any(request.keeps for request in requests),
        priority=max(one.priority for one in options),
        fresh=False,
        direct_print=False,
    )
