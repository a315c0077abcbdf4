"""Computations by way of a jobserver, over plain HTTP: Dask is not imported here."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashserver.auth import read_token_file
from hashserver.errors import AuthenticationFailed, ReadOnly, ServiceUnavailable

from ..errors import SeamlessError, UsageError
from ..locks import birth
from ..model.options import Options
from ..services import connection
from ..services.protocol import JOBS, PROTOCOL
from .opening import UNDER_WAY, JobInfo
from .transports import Http, Reply, Way

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..model.transformation import Value

    Facts = dict[str, Any]

WITHDRAWAL = 5.0
"""Seconds that Ctrl-C takes at most when the jobserver does not answer."""
SOON = 1.0
"""Seconds after which whoever waits for that is told what for."""


class Unknown(SeamlessError):
    """The jobserver does not know what it was asked about."""


class JobserverExecutor:
    """Runs computations through the jobserver that a connection file names; see `Executor`.

    Parameters
    ----------
    context : Context
        Its places follow when the daskserver comes back elsewhere.
    place : str
        The connection file.
    notify : callable
        Gets what a person who waits should know.
    """

    def __init__(self, context: Context, place: str, notify: Callable[[str], None] | None = None) -> None:
        self._context, self._place = context, place
        self.notify = notify or (lambda _: None)
        self._facts: connection.Connection | None = None
        self._way: Way | None = None

    def run(
        self,
        key: Checksum,
        options: Options | None = None,
        *,
        on_stderr: Callable[[bytes], None] | None = None,
        tick: Callable[[str], None] | None = None,
        need_bytes: bool = False,
        fresh: bool = False,
    ) -> Value:
        """Start or join it, and wait."""
        options = (options or Options())._replace(direct_print=on_stderr is not None)
        request = _request(key, options, need_bytes=need_bytes, fresh=fresh, detached=False)
        from .waiting import Waiting

        waiting = Waiting(self, request, on_stderr, tick or (lambda _: None))
        try:
            return waiting.end()
        except KeyboardInterrupt:
            self._withdraw(request)
            raise

    def submit(
        self, key: Checksum, options: Options | None = None, *, need_bytes: bool = False, fresh: bool = False
    ) -> None:
        """Start or join it."""
        self.post(_request(key, options or Options(), need_bytes=need_bytes, fresh=fresh, detached=True))

    def cancel(self, key: Checksum) -> bool:
        """Withdraw everybody."""
        with suppress(Unknown):
            return bool(self.ask("DELETE", f"{JOBS}/{key}")["cancelled"])
        return False

    def jobs(self) -> list[JobInfo]:
        """Return what is under way."""
        found = self.ask("GET", JOBS)["jobs"]
        return [
            JobInfo(**{name: job[name] for name in JobInfo._fields if name in job})
            for job in found
            if job["state"] in UNDER_WAY
        ]

    def state(self, key: Checksum) -> str | None:
        """Return its state, or how it ended if that is not long ago."""
        with suppress(Unknown):
            return str(self.ask("GET", f"{JOBS}/{key}")["state"])
        return None

    def close(self) -> None:
        """Let go of connections."""
        way, self._way = self._way, None
        if way is not None:
            way.close()

    # ------------------------------------------------------------------ requests

    def post(self, request: Facts) -> Facts:
        """Send one job; returns what is known of it."""
        body = json.dumps({"protocol": PROTOCOL, "jobs": [request]}).encode()
        facts: Facts = self.ask("POST", JOBS, body)["jobs"][0]
        return facts

    def ask(self, method: str, path: str, body: bytes = b"") -> Facts:
        """Send a request and return the JSON of its answer.

        Raises
        ------
        Unknown
            When the jobserver does not know the job.
        ServiceUnavailable
            When there is no answer, or none of a jobserver.
        UsageError
            When it does not accept the request.
        """
        with self.send(method, path, body) as response:
            try:
                found: Facts = json.loads(response.read())
            except (ValueError, RecursionError):
                raise ServiceUnavailable(f"{self._url} does not answer as a jobserver does") from None
            return found

    def send(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Send a request and return its answer, which is a good one."""
        if self._way is None:
            self._way = self._open()
        response = self._way.ask(method, path, body)
        if response.status < 300:
            return response
        with response:
            raise _meaning(response, self._url)

    def reconnect(self) -> None:
        """Connect anew: the daskserver may have come back elsewhere, which its connection file says."""
        with suppress(UsageError, AuthenticationFailed, ServiceUnavailable):
            way, self._way = self._way, self._open()
            if way is not None:
                way.close()

    def _open(self) -> Way:
        before, self._facts = self._facts, connection.read(self._place)
        token = read_token_file(self._facts.token_file)[0].secret
        if before is not None and before.hashserver != self._facts.hashserver:
            self._context.move(before.hashserver, self._facts.hashserver)
        return Http(self._facts.jobserver, token, self._facts.ca_file)

    @property
    def _url(self) -> str:
        return self._way.url if self._way else self._place

    # ------------------------------------------------------------------ withdrawing

    def _withdraw(self, request: Facts) -> None:
        """Ask no more, for as long as somebody who has pressed Ctrl-C will wait for that."""
        import threading

        done = threading.Event()
        threading.Thread(target=self._leave, args=(request, done), daemon=True).start()
        if done.wait(SOON):
            return
        self.notify(f"withdrawing from {self._url} (Ctrl-C again does not wait for it)")
        if not done.wait(WITHDRAWAL - SOON):
            key = request["key"]
            self.notify(f"{self._url} does not answer: the job goes on; seamless-cancel {key} cancels it")

    def _leave(self, request: Facts, done: Event) -> None:
        """Ask no more, also for those of this host whose processes have died."""
        key, end = request["key"], time.monotonic() + WITHDRAWAL
        while time.monotonic() < end:
            try:
                for name in self.ask("DELETE", f"{JOBS}/{key}?asker={request['asker']}")["askers"]:
                    if _is_dead(name):
                        self.ask("DELETE", f"{JOBS}/{key}?asker={name}")
            except Unknown:
                pass
            except ServiceUnavailable:
                time.sleep(0.5)
                self.reconnect()
                continue
            except SeamlessError as error:
                self.notify(str(error))
            done.set()
            return


def _request(key: Checksum, options: Options, **wishes: bool) -> Facts:
    own = os.getpid()
    name = f"{os.uname().nodename}-{own}-{birth(own)}-{time.time_ns()}"
    wishes["fresh"] = wishes["fresh"] or options.fresh
    return {"key": key, "asker": name, "options": json.loads(options.to_json()), **wishes}


def _is_dead(asker: str) -> bool:
    from .local.job_directory import is_dead

    with suppress(ValueError):  # not a name that we give
        return is_dead(asker)
    return False


def _meaning(response: Reply, url: str) -> Exception:
    try:
        message = str(json.loads(response.read())["error"])
    except (ValueError, KeyError, TypeError):
        message = ""
    if response.status == 404:
        if message.startswith("nobody has asked"):
            return Unknown(message)
        return ServiceUnavailable(f"{url} has no jobserver (yet): seamless-daskserver status looks at it")
    said = f"{message or f'status {response.status}'} ({url})"
    if response.status < 400 or (response.status == 400 and not message):
        advice = "" if url.startswith("https:") else "; if it speaks TLS its address is https://…"
        return ServiceUnavailable(f"no connection to {url}: it does not answer as a jobserver does{advice}")
    if response.status == 401:
        return AuthenticationFailed(said)
    if response.status == 403:
        return ReadOnly(said)
    return UsageError(said) if response.status < 500 else ServiceUnavailable(said)
