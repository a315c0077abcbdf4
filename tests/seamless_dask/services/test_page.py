"""The Seamless page, in a real browser, of a scheduler that has something to show."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Worker

from hashserver.auth import create_token_file, read_token_file
from seamless_dask import bash
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.errors import ComputationFailed
from seamless_dask.scheduler import SeamlessScheduler
from seamless_dask.services.web import guard, page

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def eventually(condition: Callable[[], Any]) -> Any:
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.wait import WebDriverWait

    # what was found may be gone before its text is read: the page renews itself
    return WebDriverWait(None, 60, 0.05, [StaleElementReferenceException]).until(lambda _: condition())


class Busy:
    """A scheduler and a worker, with something of everything; `open` lets the running commands go on."""

    def __init__(self, serve: Callable[..., Any], directory: Path) -> None:
        self.context = Context(load({"isolation": "none"}))
        self.token_file = str(directory / "token")
        create_token_file(self.token_file)
        self.token = read_token_file(self.token_file)[-1].secret
        self.plugin = SeamlessScheduler(self.context.config)
        self.serving = serve(self._prepare, plugins=[self.plugin])
        self.worker = self.serving.call(self._start_worker)
        self.client = Client(self.serving.scheduler.address)
        self.fifo = directory / "fifo"
        os.mkfifo(self.fifo)
        self.futures: list[Any] = []

    def _prepare(self, scheduler: Any) -> None:
        guard.install(scheduler, self.token_file)
        page.install(scheduler, self.plugin)

    async def _start_worker(self) -> Any:
        return await Worker(self.serving.scheduler.address, nthreads=3, name="<b>one</b>")

    def bash(self, code: str, **options: Any) -> Any:
        return bash(code, context=self.context, isolation="none", **options)

    def compute(self) -> None:
        """Have results, and forget them."""
        done = [self.bash(f"printf {word}") for word in ("alpha", "beta", "gamma")]
        for future in self.client.compute(done):
            future.result()
            future.release()
        eventually(lambda: not [key for key in self.serving.scheduler.tasks if "-tf-" in key])

    def work(self) -> None:
        """Have hits, misses, failures, and some that run and wait."""
        self.compute()
        self.compute()  # all are known
        with pytest.raises(ComputationFailed):
            self.client.compute(self.bash(f"echo {shlex.quote(EVIL)} >&2; exit 3")).result()
        running = [self.bash(f"sort {self.fifo} # {number}") for number in range(2)]
        waiting = [self.bash("nvidia-smi", gpus=4)]
        self.futures = self.client.compute([*running, *waiting])
        eventually(lambda: len(self.data["running"]["rows"]) == 2)
        eventually(lambda: self.data["states"].get("no-worker"))

    @property
    def data(self) -> dict[str, Any]:
        status, _, body = self.serving.ask("/seamless/data.json", self.token)
        assert status == 200
        found: dict[str, Any] = json.loads(body)
        return found

    def close(self) -> None:
        self.client.cancel(self.futures)
        eventually(lambda: not self.data["running"]["rows"])
        self.client.close()
        self.serving.call(self.worker.close)
        self.context.close()


@pytest.fixture
def busy(serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    monkeypatch.setattr(page, "EVERY", 0.1)
    found = Busy(serve, tmp_path)
    yield found
    found.close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("chromium and chromium-driver are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    flags = ["headless", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    flags += [
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ]
    flags += ["no-sandbox"] * (os.geteuid() == 0) + ["disable-dev-shm-usage", "window-size=1280,1250"]
    for flag in flags:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Any:
    """One that knows nothing of other tests: cookies are for all ports of a host."""
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    chromium.get_log("browser")
    return chromium


def texts(browser: Any, selector: str) -> list[str]:
    return [found.text for found in browser.find_elements("css selector", selector)]


def test_the_page_shows_what_goes_on(busy: Busy, browser: Any, tmp_path: Path) -> None:
    busy.work()
    browser.get(f"{busy.serving.url}/seamless?token={busy.token}")

    eventually(lambda: len(texts(browser, "#running tbody tr")) == 2)
    assert browser.current_url == busy.serving.url + "/seamless"
    assert texts(browser, "#spared") == ["30 % of 10 transformations did not have to run"]
    tiles = dict(zip(texts(browser, "#counts dt"), texts(browser, "#counts dd"), strict=True))
    assert tiles | {"Hits": "3", "Misses": "7", "Run": "3", "Failed": "1"} == tiles
    assert all(row.startswith("sort ") for row in texts(browser, "#running tbody tr"))
    assert "1 for a worker that suits" in texts(browser, "#states li")
    assert texts(browser, "#waiting tbody tr") == [
        f"nvidiasmi {busy.futures[2].key[13:]} no worker offers what it asks for: GPU 4"
    ]
    assert "database answering" in texts(browser, "#summary")[0]
    assert os.uname().nodename in texts(browser, "#nodes tbody td")
    assert "<b>one</b>" in texts(browser, "#nodes tbody td")

    (failed,) = browser.find_elements("css selector", "#failed details")
    assert "exit status 3" in failed.text
    failed.find_element("css selector", "summary").click()
    assert failed.find_element("css selector", "pre").text.strip() == EVIL
    assert browser.find_elements("css selector", "#failed img, #failed script") == []
    assert browser.title == "Seamless"
    _keep_screenshots(browser, tmp_path)
    # another round of news leaves open what was opened
    shown = browser.execute_script("return document.documentElement.dataset.time")
    eventually(lambda: browser.execute_script("return document.documentElement.dataset.time") != shown)
    assert failed.find_element("css selector", "pre").is_displayed()

    busy.client.cancel(busy.futures)
    eventually(lambda: "Nothing runs." in texts(browser, ".none"))
    assert [line for line in browser.get_log("browser") if "seamless" in line["message"]] == []
    browser.find_element("link text", "Status").click()
    eventually(lambda: "Seamless" in texts(browser, ".navbar a"))


def test_without_the_token_a_browser_is_shown_a_form_and_nothing_else(busy: Busy, browser: Any) -> None:
    for path in ("/seamless", "/seamless/data.json", "/status", "/info/main/workers.html"):
        browser.get(busy.serving.url + path)
        assert browser.title == "Seamless: token"
        assert busy.worker.address not in browser.page_source
    browser.find_element("name", "token").send_keys("guessed\n")
    eventually(lambda: "That is not a token of this daskserver." in texts(browser, "[role=alert]"))
    assert browser.get_cookies() == []
    browser.get(busy.serving.url + "/status")
    browser.find_element("name", "token").send_keys(busy.token + "\n")
    eventually(lambda: "Seamless" in texts(browser, ".navbar a"))
    browser.find_element("link text", "Seamless").click()
    eventually(lambda: texts(browser, "#summary")[0].startswith("1 worker, 3 threads"))


def _keep_screenshots(browser: Any, tmp_path: Path) -> None:
    directory = Path(os.environ.get("SEAMLESS_TEST_ARTEFACTS") or tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        path = directory / f"seamless-page-{scheme}.png"
        assert browser.save_screenshot(str(path))
        assert path.stat().st_size > 10_000


def test_the_page_says_when_nobody_answers_and_comes_back(busy: Busy, browser: Any) -> None:
    url = busy.serving.url
    browser.get(f"{url}/seamless?token={busy.token}")
    assert browser.current_url == f"{url}/seamless"
    eventually(lambda: texts(browser, "#summary")[0])
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    eventually(lambda: "does not answer" in texts(browser, "#alert")[0])
    online = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", online)
    eventually(lambda: not browser.find_element("id", "alert").is_displayed())
    assert texts(browser, "#notes li") == []
    busy.plugin.lookups.trouble, busy.plugin.recovery.unequipped[busy.worker.address] = EVIL, "no disk"
    eventually(lambda: len(texts(browser, "#notes li")) == 2)
    assert texts(browser, "#notes li")[0].endswith(EVIL)
    assert texts(browser, "#notes li")[1].endswith("runs no transformations: no disk")
    browser.delete_all_cookies()
    eventually(lambda: "reload this page" in texts(browser, "#alert")[0])


def test_it_takes_nothing_from_elsewhere(busy: Busy) -> None:
    status, headers, body = busy.serving.ask("/seamless", busy.token)
    assert status == 200
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    for name in ("page.js", "page.css", "icon.svg"):
        assert f'"seamless/{name}"'.encode() in body
        content = busy.serving.ask(f"/seamless/{name}", busy.token)[2]
        assert content.replace(b"http://www.w3.org/2000/svg", b"").count(b"http") == 0
    for name in ("../guard.py", "%2e%2e/guard.py", "login.html"):
        assert busy.serving.ask(f"/seamless/{name}", busy.token)[0] == 404
    assert busy.serving.ask("/seamless/", busy.token)[1]["location"] == "/seamless"


def test_a_thousand_failures_take_little_room(busy: Busy) -> None:
    line, gathered = "ValueError: could not convert string to float\n", busy.plugin.statistics.snapshot
    failure = {"key": "sort-tf-0", "label": "sort", "worker": None, "exit_status": 1, "stderr": line * 90}
    many = gathered() | {"failures": [failure | {"message": "", "time": t} for t in range(1000)]}
    busy.plugin.statistics.snapshot = lambda: many
    status, headers, body = busy.serving.ask("/seamless/data.json", busy.token, Accept_Encoding="gzip, br")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert len(body) < 20_000
    failures = json.loads(gzip.decompress(body))["failures"]
    assert [one["time"] for one in failures] == list(range(999, 999 - page.MOST, -1))


def test_dask_groups_transformations_by_label(busy: Busy) -> None:
    busy.work()
    prefixes = busy.serving.scheduler.task_prefixes
    assert {"printf-tf", "sort-tf", "echo-tf"} <= set(prefixes)


def test_a_scheduler_with_a_prefix_has_the_page_under_it(serve: Callable[..., Any]) -> None:
    serving = serve(lambda scheduler: page.install(scheduler, None), http_prefix="/cluster")
    status, _, body = serving.ask("/cluster/seamless")
    assert status == 200
    assert b'href="status"' in body
    assert json.loads(serving.ask("/cluster/seamless/data.json")[2])["workers"] == 0


def test_the_page_is_added_once(serve: Callable[..., Any]) -> None:
    def twice(scheduler: Any) -> None:
        page.install(scheduler, None)
        page.install(scheduler, None)

    serving = serve(twice)
    assert serving.ask("/seamless")[2].count(b'href="seamless"') == 1


def test_without_bokeh_there_is_the_page_alone(serve: Callable[..., Any]) -> None:
    serving = serve(lambda scheduler: page.install(scheduler, None), dashboard=False)
    assert serving.ask("/seamless")[0] == 200


def test_bytes_of_workers_that_are_gone_count(busy: Busy) -> None:
    busy.compute()
    stored = eventually(lambda: busy.data["moved"]["stored"])
    busy.serving.call(busy.worker.close)
    eventually(lambda: not busy.data["workers"])
    assert busy.data["nodes"] == []
    assert busy.data["moved"]["stored"] >= stored
