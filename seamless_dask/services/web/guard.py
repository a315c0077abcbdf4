"""The lock on a scheduler's HTTP server: whoever has no token sees only whether it lives.

Programs send ``Authorization: Bearer TOKEN``. A browser is given a cookie for the token once, by the form at
``/seamless/login`` or by ``?token=`` in an address. The cookie opens pages and changes nothing: pages of
other servers on the same host can have a browser send it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from tornado import web
from tornado.routing import Router

from hashserver.auth import NOTHING, READ, WRITE, Authorization, read_token_file

from ...scheduler.dask import http
from .login import COOKIE_SECONDS, LOGIN, Login, Refusal, is_own_origin, is_websocket

if TYPE_CHECKING:
    from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest

    from hashserver.auth import Token

OPEN = "/health"
HEAD_SECONDS = 60.0
_LOOKING = ("GET", "HEAD", "OPTIONS")


def install(server: Any, token_file: str) -> None:
    """Ask for a token of `token_file` at the HTTP server of a scheduler or a worker.

    Call it in the turn of the event loop that made the scheduler: its HTTP server listens from then on.

    Raises
    ------
    AuthenticationFailed
        If the token file cannot be used.
    NotAsAssumed
        If the HTTP server is not as this version of the package knows it.
    """
    tokens, prefix = read_token_file(token_file), http.http_prefix(server)
    http.limit_http_silence(server, HEAD_SECONDS)
    http.intercept_http(server, lambda inner: Guard(inner, tokens, prefix))


class Cookies:
    """Cookies that stand for tokens: the time of their end, signed with the token.

    Nothing is kept of them, so they outlive a restart.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        # a browser sends the cookies of one host to all of its ports: each daskserver has a name of its own
        self.name = "seamless-" + _signature(tokens[0].secret, "name")[:12]

    def make(self, token: Token) -> str:
        """Return a new cookie's value."""
        end = str(int(time.time()) + COOKIE_SECONDS)
        return f"{end}-{_signature(token.secret, end)}"

    def access(self, value: str) -> int:
        """Return what a cookie's value opens: `NOTHING` or `READ`."""
        end, _, given = value.partition("-")
        matches = [
            hmac.compare_digest(given.encode(), _signature(token.secret, end).encode())
            for token in self._tokens
        ]
        # nothing but what `make` wrote comes as far as being read as a number
        return READ if any(matches) and int(end) > time.time() else NOTHING


def _signature(secret: str, message: str) -> str:
    return hmac.new(secret.encode(), b"seamless dashboard " + message.encode(), hashlib.sha256).hexdigest()


class Guard(Router):
    """Passes on the requests that may be answered, and answers the others.

    Parameters
    ----------
    inner
        What answers those that may.
    tokens
        All that are known.
    prefix
        What stands before all paths.
    """

    def __init__(self, inner: Router, tokens: list[Token], prefix: str = "") -> None:
        self._inner, self._tokens, self.prefix = inner, tokens, prefix
        self._gate, self.cookies = Authorization(tokens), Cookies(tokens)
        self._application = web.Application()

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> HTTPMessageDelegate | None:
        """Return what answers a request."""
        if given := _take_token(request):
            return self._own(request, Login, token=given)
        if request.path == self.prefix + LOGIN:
            return self._own(request, Login)
        if request.path == self.prefix + OPEN and request.method in _LOOKING:
            return self._pass(request)
        status, reason = self._judge(request)
        return self._own(request, Refusal, status=status, reason=reason) if status else self._pass(request)

    def token(self, secret: str) -> Token | None:
        """Return the token that a secret is; the time does not depend on how much of it is right."""
        found = [
            token for token in self._tokens if hmac.compare_digest(token.secret.encode(), secret.encode())
        ]
        return found[0] if found else None

    def _judge(self, request: HTTPServerRequest) -> tuple[int, str]:
        header = request.headers.get("Authorization")
        if header is not None:
            access = self._gate.access(header)
            if access == READ and request.method not in _LOOKING:
                return 403, "this token may only look: use the one that writes"
            return (0, "") if access in (READ, WRITE) else (401, "the token is not one of this daskserver")
        cookie = request.cookies.get(self.cookies.name)
        if cookie is None or not self.cookies.access(cookie.value):
            return 401, "a token is needed: send it as 'Authorization: Bearer TOKEN'"
        if request.method not in _LOOKING:
            return 403, "a browser's cookie may only look: send the token as 'Authorization: Bearer TOKEN'"
        if _is_foreign(request):
            return 403, "the page of another server asked for this"
        return 0, ""

    def _pass(self, request: HTTPServerRequest) -> HTTPMessageDelegate | None:
        return self._inner.find_handler(request)

    def _own(
        self, request: HTTPServerRequest, handler: type[web.RequestHandler], **details: Any
    ) -> HTTPMessageDelegate:
        return self._application.get_handler_delegate(request, handler, {"guard": self, **details})


def _take_token(request: HTTPServerRequest) -> str | None:
    """Take ``token`` out of the address of a page, so that nothing that logs requests can show it."""
    if request.method != "GET" or "token=" not in request.query or is_websocket(request):
        return None
    pairs = parse_qsl(request.query, keep_blank_values=True, errors="replace")
    given = [value for name, value in pairs if name == "token"]
    if not given:
        return None
    request.query = urlencode([(name, value) for name, value in pairs if name != "token"])
    request.uri = request.path + ("?" + request.query if request.query else "")
    for arguments in (request.arguments, request.query_arguments):
        arguments.pop("token", None)
    return given[0]


def _is_foreign(request: HTTPServerRequest) -> bool:
    """Whether a browser asks on behalf of a page that is not from here; a tunnel changes both names alike."""
    origin = request.headers.get("Origin")
    if origin is None:
        site, mode = (request.headers.get(f"Sec-Fetch-{name}", "") for name in ("Site", "Mode"))
        return is_websocket(request) or (site in ("cross-site", "same-site") and mode != "navigate")
    return not is_own_origin(request, origin)
