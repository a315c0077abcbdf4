"""How a browser gets past the guard, and what is said to whoever does not."""

from __future__ import annotations

import hashlib
import html
import json
import time
from base64 import b64encode
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, urlsplit

from tornado import web

from .assets import text

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest

    from hashserver.auth import Token

LOGIN = "/seamless/login"
COOKIE_SECONDS = 24 * 3600
BODY_SECONDS = 20.0
MOST_BYTES = 4096
"""Of a login form."""


class CookieMaker(Protocol):
    """What stands for a token in a browser."""

    name: str

    def make(self, token: Token) -> str:
        """Return the value of a cookie."""
        ...


class TokenKeeper(Protocol):
    """Who knows the tokens."""

    prefix: str
    cookies: CookieMaker

    def token(self, secret: str) -> Token | None:
        """Return the token with this secret."""
        ...


def is_websocket(request: HTTPServerRequest) -> bool:
    """Whether a request is for a connection that stays open."""
    return "Upgrade" in request.headers


def is_own_origin(request: HTTPServerRequest, origin: str) -> bool:
    """Whether a page is from here; a tunnel changes both names alike."""
    return origin.lower() == f"{request.protocol}://{request.host}".lower()


@web.stream_request_body
class Refusal(web.RequestHandler):
    """Answers without reading a body: who has no token has nothing to say."""

    def initialize(self, guard: TokenKeeper, status: int, reason: str) -> None:
        """Take what is to be said."""
        self.guard, self.status, self.reason = guard, status, reason

    def prepare(self) -> None:
        """Answer: a browser gets the form, everybody else one line."""
        if self.status == 401 and self.request.method == "GET" and _is_browser(self.request):
            _show_form(self, self.guard, str(self.request.uri), "")
        else:
            _refuse(self, self.status, self.reason)

    def data_received(self, chunk: bytes) -> None:
        """Drop what comes."""

    def _request_summary(self) -> str:
        return f"{self.request.method} {self.request.path}"


@web.stream_request_body
class Login(web.RequestHandler):
    """Gives a browser a cookie for a token."""

    def initialize(self, guard: TokenKeeper, token: str | None = None) -> None:
        """Take the token that stood in the address."""
        self.guard, self.given, self._body = guard, token, b""

    def prepare(self) -> None:
        """Refuse what cannot be a filled form, before it arrives."""
        if self.request.method != "POST":
            return
        connection: Any = self.request.connection
        connection.set_body_timeout(BODY_SECONDS)
        origin = self.request.headers.get("Origin")
        length = self.request.headers.get("Content-Length", "")
        if origin is not None and not is_own_origin(self.request, origin):
            _refuse(self, 403, "the page of another server asked for this")
        elif not (length.isascii() and length.isdecimal() and int(length[:9]) <= MOST_BYTES):
            _refuse(self, 413, "this is not the form that belongs here")

    def data_received(self, chunk: bytes) -> None:
        """Collect the form."""
        self._body += chunk

    def get(self) -> None:
        """Show the form, or take the token from the address and go on without it there."""
        after = str(self.request.uri)
        if self.request.path == self.guard.prefix + LOGIN:
            after = self.get_query_argument("next", self.guard.prefix + "/seamless")
        if self.given is None:
            return _show_form(self, self.guard, after, "", 200)
        return self._enter(self.given, after)

    def post(self) -> None:
        """Take the token from the form."""
        try:
            form = parse_qs(self._body.decode("ascii"), max_num_fields=4, errors="replace")
        except ValueError:
            form = {}
        self._enter(form.get("token", [""])[0].strip(), form.get("next", [""])[0])

    def _enter(self, secret: str, after: str) -> None:
        token = self.guard.token(secret)
        if token is None:
            return _show_form(self, self.guard, after, "That is not a token of this daskserver.")
        secure = "; Secure" if self.request.protocol == "https" else ""
        end = formatdate(time.time() + COOKIE_SECONDS, usegmt=True)
        value = f"{self.guard.cookies.name}={self.guard.cookies.make(token)}"
        self.set_header("Set-Cookie", f"{value}; Expires={end}; HttpOnly; SameSite=Strict; Path=/{secure}")
        _private(self, "no-referrer")
        self.set_status(303)
        self.set_header("Location", _within(after, self.guard.prefix + "/seamless"))
        return None

    def _request_summary(self) -> str:
        return f"{self.request.method} {self.request.path}"


def _within(path: str, otherwise: str) -> str:
    """Return `path` if it leads nowhere else than to this server."""
    is_path = path.startswith("/") and not path.startswith(("//", "/\\"))
    is_clean = path.isascii() and path.isprintable() and "\\" not in path
    return path if is_path and is_clean and not urlsplit(path).netloc else otherwise


def _is_browser(request: HTTPServerRequest) -> bool:
    return "text/html" in request.headers.get("Accept", "") and not is_websocket(request)


def _private(handler: web.RequestHandler, referrer: str) -> None:
    handler.set_header("Cache-Control", "no-store")
    handler.set_header("Referrer-Policy", referrer)
    handler.set_header("X-Content-Type-Options", "nosniff")
    handler.set_header("X-Frame-Options", "DENY")


def _refuse(handler: web.RequestHandler, status: int, reason: str) -> None:
    _private(handler, "no-referrer")
    handler.set_status(status)
    if status == 401:
        handler.set_header("WWW-Authenticate", 'Bearer realm="seamless"')
    handler.set_header("Connection", "close")
    handler.set_header("Content-Type", "application/json")
    handler.finish(json.dumps({"error": reason}))


def _show_form(
    handler: web.RequestHandler, guard: TokenKeeper, after: str, problem: str, status: int = 401
) -> None:
    # with "no-referrer" a browser would hide from which page the form was sent
    _private(handler, "same-origin")
    handler.set_status(status)
    if status == 401:
        handler.set_header("WWW-Authenticate", 'Bearer realm="seamless"')
    style = text("login.css")
    digest = _source_digest(style)
    handler.set_header(
        "Content-Security-Policy",
        f"default-src 'none'; style-src '{digest}'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'",
    )
    handler.set_header("Content-Type", "text/html; charset=utf-8")
    words = {"STYLE": style, "ACTION": guard.prefix + LOGIN, "NEXT": after, "PROBLEM": problem}
    page = text("login.html")
    for name, value in words.items():
        page = page.replace(f"@{name}@", value if name == "STYLE" else html.escape(value))
    handler.finish(page)


def _source_digest(source: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(source.encode()).digest()).decode()
