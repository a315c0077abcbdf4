"""What a sandboxed command can and cannot reach."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hashserver.errors import ServiceUnavailable
from seamless_dask.errors import ComputationFailed, UsageError
from seamless_dask.execution import bash
from seamless_dask.execution import isolation as sandboxes

if TYPE_CHECKING:
    from .conftest import Lab


@pytest.fixture(autouse=True)
def fresh_knowledge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bash, "_without_sandbox", [])


@pytest.fixture
def broken_bwrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where user namespaces are not permitted."""
    program = tmp_path / "bin" / "bwrap"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_auto_takes_bubblewrap_where_it_works(lab: Lab, bubblewrap: str) -> None:
    assert lab.run("true", isolation="auto").record["isolation"] == bubblewrap


def test_auto_falls_back_and_says_so(lab: Lab, broken_bwrap: None) -> None:
    record = lab.run("true", isolation="auto").record
    assert record["isolation"] == "none"
    assert record["isolation_reason"] == "bwrap: No permissions to create new namespace"
    assert record["stderr"] == ""


def test_forced_bubblewrap_that_does_not_work(lab: Lab, broken_bwrap: None) -> None:
    with pytest.raises(UsageError, match="does not work here: bwrap: No permissions"):
        lab.run("true", isolation="bubblewrap")


def test_forced_bubblewrap_that_is_not_there(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes, "program", lambda: None)
    with pytest.raises(UsageError, match="apt install bubblewrap"):
        lab.run("true", isolation="bubblewrap")
    assert lab.run("true", isolation="auto").record["isolation"] == "none"


def test_a_command_that_fails_with_1_is_no_broken_sandbox(lab: Lab, bubblewrap: str) -> None:
    with pytest.raises(ComputationFailed, match="exit status 1"):
        lab.run("echo 'bwrap: no' >&2; exit 1", isolation=bubblewrap)


def test_no_network(lab: Lab, bubblewrap: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}"
        lab.run(code, isolation="none")
        with pytest.raises(ComputationFailed):
            lab.run(code, isolation=bubblewrap)


def test_no_files_of_others(lab: Lab, bubblewrap: str, home: Path) -> None:
    (home / "secret").write_text("secret")
    lab.run(f"cat {home}/secret", isolation="none")
    for place in (home, Path(lab.context.config.cache), Path(__file__).parent):
        with pytest.raises(ComputationFailed):
            lab.run(f"ls {place}", isolation=bubblewrap)


def test_system_is_read_only_and_tmp_private(lab: Lab, bubblewrap: str) -> None:
    code = "touch /tmp/mine /var/tmp/mine; ls /tmp; ! touch /usr/x /etc/x /x/y 2>/dev/null"
    assert lab.stdout(code, isolation=bubblewrap) == "mine\n"
    assert not os.path.exists("/tmp/mine")


def test_the_same_place_every_time(lab: Lab, bubblewrap: str) -> None:
    assert lab.stdout("pwd; echo $HOME", isolation=bubblewrap) == "/seamless/work\n/seamless/home\n"


def test_other_processes_are_not_seen(lab: Lab, bubblewrap: str) -> None:
    assert int(lab.stdout("ls -d /proc/[0-9]* | wc -l", isolation=bubblewrap)) < 10


def test_environments_on_the_search_path_work(
    lab: Lab, bubblewrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:/usr/bin:/bin")
    installed = "pytest" if sys.prefix != sys.base_prefix else "json"
    code = f"python3 -c 'import {installed}, sys; print(sys.prefix)'"
    assert lab.stdout(code, isolation=bubblewrap).strip() == sys.prefix


def test_a_home_directory_is_never_shown_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    for name in ("bin", "keys", ".local/bin", ".local/lib", ".local/share", "conda/bin", "conda/conda-meta"):
        (home / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    path = f"{home}/bin:{home}/.local/bin:{home}/conda/bin:/usr/bin:.:relative:{home}/nonsense"
    shown = sandboxes.software({"PATH": path})
    assert shown == [f"{home}/{name}" for name in (".local/bin", ".local/lib", "bin", "conda")]


def test_a_search_path_shows_no_home_and_nothing_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".local/bin").mkdir(parents=True)
    (home / ".local/share/keys").mkdir(parents=True)
    (home / "venv/bin").mkdir(parents=True)
    (home / "venv/pyvenv.cfg").write_text(f"home = {home}/.local/bin\n")
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(home))
    for place in ("/", "//", "/tmp", "/home", str(home), f"{home}/", str(tmp_path), f"{tmp_path}/link"):
        names = ("PATH", "MODULEPATH", "CONDA_PREFIX", "PYENV_ROOT")
        assert sandboxes.software(dict.fromkeys(names, place)) == []
    shown = sandboxes.software({"PATH": f"{home}/venv/bin"})
    assert shown == [f"{home}/.local/bin", f"{home}/venv"]


def test_a_home_below_what_is_shown_is_not_shown(
    lab: Lab, bubblewrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On some hosts homes lie below /opt; the cache, with the tokens, lies wherever it was put."""
    shared, cache = tmp_path / "shared", Path(lab.context.cache)
    home = shared / "home"
    (home / "bin").mkdir(parents=True)
    (cache / "bin").mkdir()
    for name in (home / "secret", cache / "secret", cache / "pyvenv.cfg"):
        name.touch()
    monkeypatch.setattr(sandboxes, "_SYSTEM", (*sandboxes._SYSTEM, str(shared)))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{home}/bin:{cache}/bin:{os.environ['PATH']}")
    sandboxes._system.cache_clear()
    try:
        code = f"ls -d {shared} {home}/bin; ls {home} {cache} | grep secret || echo hidden"
        assert lab.stdout(code, isolation=bubblewrap).split() == [str(shared), f"{home}/bin", "hidden"]
    finally:
        sandboxes._system.cache_clear()


def test_what_makes_the_sandbox_is_not_looked_for_where_we_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in ("", ".", ":/usr/bin", "/nowhere:"):
        monkeypatch.setenv("PATH", path)
        assert os.path.isabs(sandboxes.program() or "/")


def test_devices(lab: Lab, bubblewrap: str) -> None:
    lab.run("echo x > /dev/null; test -c /dev/urandom -a -d /dev/shm", isolation=bubblewrap)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


NAMES = ("PATH", "MODULEPATH", "CONDA_PREFIX", "PYENV_ROOT", "VIRTUAL_ENV", "TMPDIR", "HOME")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A directory that looks like an environment of every kind."""
    found = tmp_path / "secret"
    for name in ("bin", "conda-meta", "shims", "modulefiles"):
        (found / name).mkdir(parents=True)
    (found / "pyvenv.cfg").write_text(f"home = {tmp_path}\n")
    return found


@pytest.mark.parametrize("how", ["metavars", "variables"])
@pytest.mark.parametrize("name", NAMES)
def test_a_variable_that_is_asked_for_makes_nothing_visible(
    lab: Lab, bubblewrap: str, secret: Path, how: str, name: str
) -> None:
    value = f"{secret}/bin:/usr/bin:/bin" if name == "PATH" else str(secret)
    code = f'test ! -e {secret} && echo "${name}"'
    asked: dict[str, object] = {how: {name: value}}
    assert lab.stdout(code, isolation=bubblewrap, **asked) == f"{value}\n"


def test_what_the_executing_side_names_is_visible(
    lab: Lab, bubblewrap: str, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{secret}/bin:{os.environ['PATH']}")
    lab.run(f"test -d {secret}/shims", isolation=bubblewrap)


def test_an_environment_that_this_host_does_not_know_is_not_shown(
    lab: Lab, bubblewrap: str, secret: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (str(secret), f"{secret}/../secret", f"{secret}-that-is-not-there"):
        with pytest.raises(UsageError, match=r"for a sandbox to show it$"):
            lab.run("true", conda=name, isolation=bubblewrap)
    (home / ".conda").mkdir()
    (home / ".conda/environments.txt").write_text(f"{secret}\n")
    lab.run(f"test -d {secret}/conda-meta", conda=str(secret), isolation=bubblewrap)


def test_variables_do_not_reach_who_makes_the_sandbox(lab: Lab, bubblewrap: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    asked = {"LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": f"{trace}/reached"}
    lab.run("true", metavars=asked, isolation=bubblewrap)
    assert list(trace.iterdir()) == []


@pytest.mark.parametrize(
    "asked", [{"A": "x\0--bind\0/\0/host"}, {"A\0--bind\0/\0/host": "x"}, {"A=B": "x"}, {"": "x"}]
)
def test_a_variable_that_cannot_be(lab: Lab, isolation: str, asked: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="no environment can hold the variable"):
        lab.run("true", metavars=asked, isolation=isolation)


def test_variables_are_no_arguments(lab: Lab, bubblewrap: str) -> None:
    """Everybody on the host can read those."""
    code = 'tr "\\0" "\\n" < /proc/1/cmdline; tr "\\0" "\\n" < /proc/$PPID/cmdline'
    assert "quite-private" not in lab.stdout(code, metavars={"A": "quite-private"}, isolation=bubblewrap)


@pytest.mark.parametrize(
    ("asked", "told"),
    [({f"v{number}": "x" for number in range(4000)}, "variables, not"), ({"v": "x" * 300_000}, "too long")],
    ids=["many", "long"],
)
def test_no_run_can_do_away_with_the_sandbox_of_others(
    lab: Lab, bubblewrap: str, asked: dict[str, str], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        lab.run("true", metavars=asked, isolation="auto")
    assert lab.run("true", isolation="auto").record["isolation"] == bubblewrap


def test_a_sandbox_that_one_run_lacks_is_no_sandbox_that_does_not_work(
    lab: Lab, bubblewrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandboxes, "visible", lambda *_: ["/nowhere", ""])  # no place to mount the second
    with pytest.raises(ServiceUnavailable, match="a sandbox could not be made on"):
        lab.run("true", isolation="auto")
    monkeypatch.undo()
    assert bash._without_sandbox == []


MISDEEDS = ["mkfifo phase", "ln -s {secret} phase", "mkdir phase", "ln -s phase phase"]


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_what_a_command_makes_of_our_own_files(
    lab: Lab, bubblewrap: str, tmp_path: Path, misdeed: str
) -> None:
    secret = tmp_path / "module-key"
    secret.write_text("module of a private key")
    code = f"cd /seamless/control; rm -f phase; {misdeed.format(secret=secret)}"
    with pytest.raises(ComputationFailed) as caught:
        lab.run(code, prologue=("true",), isolation=bubblewrap)
    assert "private" not in str(caught.value)


def test_a_run_keeps_the_name_by_which_its_processes_are_found(lab: Lab, isolation: str) -> None:
    assert lab.stdout("echo $SEAMLESS_RUN", metavars={"SEAMLESS_RUN": "x"}, isolation=isolation) != "x\n"
