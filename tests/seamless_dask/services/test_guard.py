"""Who may see a scheduler's pages: whoever has the token."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import dask.config
import pytest
from tornado import web
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from hashserver.auth import create_token_file, read_token_file
from hashserver.errors import AuthenticationFailed
from seamless_dask.services.daskserver import credentials
from seamless_dask.services.web import guard, login

PAGES = [
    "/", "/status", "/workers", "/individual-profile", "/info/main/workers.html", "/info/main/logs.html",
    "/json/counts.json", "/metrics", "/sitemap.json", "/statics/css/base.css", "/static/js/bokeh.min.js",
    "/jobs", "/nothing", "/health/", "//health", "/%68ealth", "/health/../status", "/health;/status",
]  # fmt: skip


class Jobs(web.RequestHandler):
    """Stands where the jobserver is."""

    bodies: list[bytes]

    def initialize(self) -> None:
        self.bodies = self.application.settings.setdefault("bodies", [])

    def get(self) -> None:
        self.write("looked")

    def post(self) -> None:
        self.bodies.append(self.request.body)
        self.write("posted")

    def delete(self) -> None:
        self.bodies.append(b"deleted")
        self.write("deleted")


class Locked:
    """A scheduler behind the guard."""

    def __init__(self, serve: Callable[..., Any], directory: Path, **options: Any) -> None:
        path = str(directory / "token")
        create_token_file(path)
        self.writing, self.reading = (token.secret for token in read_token_file(path))

        def prepare(scheduler: Any) -> None:
            guard.install(scheduler, path)
            scheduler.http_application.add_handlers(".*$", [("/jobs", Jobs)])

        self.serving = serve(prepare, **options)
        self.ask, self.port = self.serving.ask, self.serving.port
        self.host = f"127.0.0.1:{self.port}"

    @property
    def bodies(self) -> list[bytes]:
        found: list[bytes] = self.serving.scheduler.http_application.settings.get("bodies", [])
        return found

    def log_in(self, token: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        form = urlencode({"token": token, "next": "/jobs"}).encode()
        found: tuple[int, dict[str, str], bytes] = self.ask("/seamless/login", None, "POST", form, **headers)
        return found

    def cookie(self, token: str) -> str:
        return self.log_in(token)[1]["set-cookie"].partition(";")[0]

    def raw(self, request: bytes) -> bytes:
        """Send bytes and return all that comes until the other side closes."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=60)) as sock:
            sock.sendall(request)
            found = b""
            try:
                while part := sock.recv(65536):
                    found += part
            except ConnectionResetError:
                pass
            return found

    def websocket(self, path: str, **headers: str) -> int:
        """Open a websocket; return 101 if that works, else the status of the answer."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}

        async def connect() -> int:
            try:
                found = await websocket_connect(HTTPRequest(f"ws://{self.host}{path}", headers=given))
            except HTTPClientError as error:
                return error.code
            found.close()
            return 101

        status: int = self.serving.call(connect)
        return status


@pytest.fixture
def locked(serve: Callable[..., Any], tmp_path: Path) -> Locked:
    return Locked(serve, tmp_path)


def test_without_a_token_nothing_opens_but_the_sign_of_life(locked: Locked) -> None:
    assert locked.ask("/health")[::2] == (200, b"ok")
    for path in PAGES:
        status, headers, body = locked.ask(path)
        assert status == 401, path
        assert headers["www-authenticate"].startswith("Bearer")
        assert "token is needed" in json.loads(body)["error"]
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert locked.ask("/jobs", method=method)[0] == 401
    assert locked.ask("/health", method="POST")[0] == 401
    assert locked.bodies == []


def test_the_token_opens_everything(locked: Locked) -> None:
    for path in ("/status", "/info/main/workers.html", "/json/counts.json", "/metrics", "/jobs"):
        assert locked.ask(path, locked.writing)[0] == 200, path
    assert locked.ask("/jobs", locked.writing, "POST", b"x" * 100_000)[0] == 200
    assert locked.ask("/jobs", locked.writing, "DELETE")[0] == 200
    assert locked.bodies == [b"x" * 100_000, b"deleted"]


def test_a_token_that_reads_may_look_only(locked: Locked) -> None:
    assert locked.ask("/jobs", locked.reading)[0] == 200
    for method in ("POST", "DELETE", "PUT"):
        status, _, body = locked.ask("/jobs", locked.reading, method)
        assert status == 403
        assert "may only look" in json.loads(body)["error"]
    assert locked.bodies == []


def test_a_header_that_is_almost_right_is_wrong(locked: Locked) -> None:
    forms = ["", "Bearer", "Bearer ", "bearer {}", "Bearer {}x", "Bearer {}, Bearer {}", "Basic {}", "{}"]
    for header in (*forms, "Bearer \xe9{}"):
        given = header.replace("{}", locked.writing).encode("latin-1")
        answer = locked.raw(
            b"GET /jobs HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: " + given + b"\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 401 "), header
        assert locked.writing.encode() not in answer


def test_a_wrong_header_is_not_mended_by_a_cookie(locked: Locked) -> None:
    assert locked.ask("/jobs", "wrong" * 8, Cookie=locked.cookie(locked.writing))[0] == 401


MALFORMED = [
    b"GET /jobs\r\n\r\n",
    b"GET http://h/health/../jobs HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /jobs HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /jobs HTTP/1.1\r\nHost: h\r\n Authorization: x\r\n\r\n",
    b"GET /jobs HTTP/1.1\r\nHost: h\r\nCookie: =;;;\x01\xff\r\nConnection: close\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n",
    b"POST /seamless/login HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    b"POST /seamless/login HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nt\r\n0\r\n\r\n",
    b"GET /jobs HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
]


def test_malformed_requests_open_nothing_and_break_nothing(locked: Locked) -> None:
    for request in MALFORMED:
        answer = locked.raw(request)
        assert answer == b"" or answer.split()[1] in (b"400", b"401", b"405", b"413"), request
        assert b"looked" not in answer
        assert locked.ask("/jobs", locked.writing)[0] == 200


def test_requests_behind_one_another_are_each_checked(locked: Locked) -> None:
    open_ = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
    mine = b"GET /jobs HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %b\r\n\r\n" % locked.writing.encode()
    answer = locked.raw(open_ + mine + b"GET /jobs HTTP/1.1\r\nHost: h\r\n\r\n" + mine)
    assert answer.count(b"looked") == 1
    assert answer.count(b"HTTP/1.1 401") == 1


def test_a_body_is_refused_before_it_is_sent(locked: Locked) -> None:
    head = b"POST /jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n"
    assert locked.raw(head).startswith(b"HTTP/1.1 401 ")  # and the connection is closed
    head = head.replace(b"/jobs", b"/seamless/login")
    assert locked.raw(head).startswith(b"HTTP/1.1 413 ")


def test_slow_clients_are_cut_off_and_keep_nobody_waiting(
    serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(login, "BODY_SECONDS", 0.5)
    locked = Locked(serve, tmp_path)
    with closing(socket.create_connection(("127.0.0.1", locked.port), timeout=60)) as sock:
        sock.sendall(b"GET /jobs HT")
        assert locked.ask("/jobs", locked.writing)[0] == 200
        assert sock.recv(1) == b""
    answer = locked.raw(b"POST /seamless/login HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\ntoken=")
    assert b" 303 " not in answer


def test_a_browser_is_shown_a_form_where_it_wanted_a_page(locked: Locked) -> None:
    path = '/jobs?x="><script>alert(1)</script>'
    status, headers, body = locked.ask(quote(path, safe="/?=&"), Accept="text/html,*/*")
    assert status == 401
    assert headers["content-type"].startswith("text/html")
    assert b'type="password"' in body
    assert b"<script" not in body
    assert "default-src 'none'" in headers["content-security-policy"]


def test_the_form_gives_a_cookie_and_goes_on(locked: Locked) -> None:
    status, headers, body = locked.log_in(f" {locked.writing}\n", Origin=f"http://{locked.host}")
    assert (status, headers["location"], body) == (303, "/jobs", b"")
    cookie = headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert locked.writing not in cookie
    assert locked.ask("/jobs", Cookie=cookie.partition(";")[0])[2] == b"looked"
    assert locked.ask("/seamless/login")[0] == 200


def test_a_wrong_token_in_the_form_gives_no_cookie(locked: Locked) -> None:
    for wrong in ("", "x", locked.writing[:-1], locked.writing + "\0", "é" * 64):
        status, headers, body = locked.log_in(wrong)
        assert status == 401
        assert "set-cookie" not in headers
        assert b"not a token of this daskserver" in body
    foreign = locked.log_in(locked.writing, Origin="http://elsewhere.example")
    assert foreign[0] == 403
    assert "set-cookie" not in foreign[1]


def test_the_form_leads_nowhere_else(locked: Locked) -> None:
    bad = [
        "//evil.example/",
        "/\\evil.example",
        "https://evil.example",
        "",
        "/a\r\nX: y",
        "/\tx",
        "jobs",
        "/é",
    ]
    for path in bad:
        form = urlencode({"token": locked.reading, "next": path}).encode()
        status, headers, _ = locked.ask("/seamless/login", None, "POST", form)
        assert (status, headers["location"]) == (303, "/seamless"), path
        assert "x" not in headers


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address(
    locked: Locked, caplog: pytest.LogCaptureFixture
) -> None:
    status, headers, _ = locked.ask(f"/jobs?a=1&token={locked.reading}&b=%20")
    assert (status, headers["location"]) == (303, "/jobs?a=1&b=+")
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert locked.ask("/jobs", Cookie=headers["set-cookie"].partition(";")[0])[0] == 200
    status, headers, body = locked.ask(f"/jobs?token={locked.reading}x")
    assert status == 401
    assert "set-cookie" not in headers
    assert locked.reading.encode() not in body
    assert locked.reading not in caplog.text
    for path in ("/seamless/login", "/health"):
        assert locked.ask(f"{path}?token={locked.writing}")[0] == 303
    assert locked.ask(f"/jobs?token={locked.writing}", method="POST")[0] == 401


def test_a_cookie_changes_nothing(locked: Locked) -> None:
    cookie = locked.cookie(locked.writing)
    for method in ("POST", "DELETE", "PUT", "PATCH"):
        status, _, body = locked.ask("/jobs", None, method, Cookie=cookie, Origin=f"http://{locked.host}")
        assert status == 403
        assert "cookie may only look" in json.loads(body)["error"]
    assert locked.bodies == []


def test_a_cookie_is_good_for_pages_from_here_only(locked: Locked) -> None:
    cookie = locked.cookie(locked.reading)
    assert locked.ask("/jobs", Cookie=cookie, Origin="http://127.0.0.1:1")[0] == 403
    assert locked.ask("/jobs", Cookie=cookie, Origin="null")[0] == 403
    fetched = {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"}
    assert locked.ask("/jobs", Cookie=cookie, **fetched)[0] == 403
    assert locked.ask("/jobs", Cookie=cookie, **fetched | {"Sec_Fetch_Mode": "navigate"})[0] == 200
    # the far end of a tunnel has another name, for the page as for its origin
    tunnel = {"Host": "localhost:9999", "Origin": "http://localhost:9999"}
    assert locked.ask("/jobs", Cookie=cookie, **tunnel)[0] == 200


def test_cookies_end_and_cannot_be_made_up(locked: Locked, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = locked.cookie(locked.reading)
    name, _, value = cookie.partition("=")
    end, _, signature = value.partition("-")
    later = f"{int(end) + 1}-{signature}"
    for wrong in (later, f"{end}-", f"-{signature}", "x-x", f"{end}-{signature}0", f"{end}-{'é' * 64}", "-"):
        assert locked.ask("/jobs", Cookie=f"{name}={quote(wrong)}")[0] == 401
    assert locked.ask("/jobs", Cookie=cookie)[0] == 200
    monkeypatch.setattr(guard.time, "time", lambda now=int(end): now)
    assert locked.ask("/jobs", Cookie=cookie)[0] == 401


def test_cookies_outlive_a_restart_and_open_no_other_daskserver(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first, other = Locked(serve, tmp_path / "a"), Locked(serve, tmp_path / "b")
    cookie = first.cookie(first.reading)
    again = serve(lambda scheduler: guard.install(scheduler, str(tmp_path / "a" / "token")))
    assert again.ask("/metrics", Cookie=cookie)[0] == 200
    assert other.ask("/jobs", Cookie=cookie)[0] == 401
    # a browser sends both to both ports
    assert other.ask("/jobs", Cookie=f"{cookie}; {other.cookie(other.reading)}")[0] == 200


def test_websockets_need_the_token_too(locked: Locked) -> None:
    cookie, own = locked.cookie(locked.reading), f"http://{locked.host}"
    assert locked.websocket("/eventstream", Origin=own) == 401
    assert locked.websocket("/eventstream", Authorization=f"Bearer {'x' * 64}", Origin=own) == 401
    assert locked.websocket("/eventstream", Authorization=f"Bearer {locked.reading}") == 101
    assert locked.websocket("/eventstream", Cookie=cookie, Origin=own) == 101
    assert locked.websocket("/eventstream", Cookie=cookie) == 403
    assert locked.websocket("/eventstream", Cookie=cookie, Origin="http://127.0.0.1:1") == 403
    assert locked.websocket(f"/eventstream?token={locked.reading}", Origin=own) == 401
    # Bokeh's own
    assert locked.websocket("/status/ws", Origin=own) == 401
    assert locked.websocket("/status/ws", Cookie=cookie, Origin="http://127.0.0.1:1") == 403


def test_a_prefix_of_the_dashboard_is_respected(serve: Callable[..., Any], tmp_path: Path) -> None:
    locked = Locked(serve, tmp_path, http_prefix="/cluster")
    assert locked.ask("/cluster/health")[0] == 200
    assert locked.ask("/cluster/status")[0] == 401
    assert locked.ask("/cluster/status", locked.reading)[0] == 200
    _, headers, _ = locked.ask(f"/cluster/seamless/login?token={locked.reading}")
    assert headers["location"] == "/cluster/seamless"


def test_over_tls_the_cookie_never_travels_without(serve: Callable[..., Any], tmp_path: Path) -> None:
    made = credentials.make(str(tmp_path), ["127.0.0.1"])
    files = {"cert": made.cert_file, "key": made.key_file, "ca-file": made.ca_file}
    with dask.config.set({"distributed.scheduler.dashboard.tls": files}):
        serving = serve(lambda scheduler: guard.install(scheduler, made.token_file))
    form = urlencode({"token": read_token_file(made.token_file)[0].secret}).encode()
    context = ssl.create_default_context(cafile=made.ca_file)
    connection = http.client.HTTPSConnection("127.0.0.1", serving.port, context=context, timeout=60)
    with closing(connection):
        connection.request("POST", "/seamless/login", form, {"Origin": f"https://127.0.0.1:{serving.port}"})
        answer = connection.getresponse()
        assert answer.status == 303
        assert "; Secure" in answer.headers["Set-Cookie"]


def test_a_token_file_that_others_may_read_is_refused(serve: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "token"
    create_token_file(str(path))
    path.chmod(0o644)
    serving = serve()
    with pytest.raises(AuthenticationFailed, match="chmod 600"):
        serving.call(guard.install, serving.scheduler, str(path))
