"""Names, code and values have one identity in every locale.

Public reports of the kind: NixOS/nix#847 (a name that is not ASCII gives another hash on another system),
restic#5130 (names became question marks under another locale), borgbackup/borg#1702 (nothing but C and POSIX
is installed, and names that are not ASCII cannot be extracted).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BIN = os.path.dirname(sys.executable)
SOURCES = "/usr/share/i18n/locales"
MADE = {"en_US.ISO-8859-1": "ISO-8859-1", "en_US.ISO-8859-15": "ISO-8859-15"}
LOCALES = [*MADE, "C", "POSIX", "en_US.not-installed"]
KINDS = ["en_US.ISO-8859-15", "POSIX", "en_US.not-installed"]
"""One of those of eight bits, one of those of seven, and what falls back to that."""
UTF8 = "C.UTF-8"
SAID = "é¤€"  # in Latin-1 and Latin-9 the bytes of this mean other characters, each time different ones
NAME = f"{SAID}.txt"


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the locales that few systems have."""
    if not (shutil.which("localedef") and os.path.exists(SOURCES + "/en_US")):
        pytest.skip("localedef and the sources of locales are missing (Debian: apt install locales)")
    directory = tmp_path_factory.mktemp("locales")
    for name, encoding in MADE.items():
        subprocess.run(["localedef", "-i", "en_US", "-f", encoding, directory / name], check=True)
    return directory


class Shell:
    """A shell that has a locale; everything that goes in and out is bytes."""

    def __init__(self, locales: Path, directory: Path) -> None:
        self.directory = directory
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHON"))}
        self.environment = {**kept, "LOCPATH": str(locales)}

    def __call__(
        self, locale: str, *words: str, status: int = 0, stdin: str = "", **environment: str
    ) -> tuple[str, str]:
        done = subprocess.run(
            [BIN + "/" + words[0], *words[1:]],
            cwd=self.directory,
            env={**self.environment, "LC_ALL": locale, "LANG": locale, **environment},
            input=stdin.encode(),
            capture_output=True,
            timeout=100,
        )
        assert done.returncode == status, (words, done)
        return done.stdout.decode(), done.stderr.decode()

    def key(self, locale: str, *words: str) -> str:
        """The checksum of a transformation, which is not run."""
        key: str = json.loads(self(locale, "seamless-run", "--dry-run", "--json", *words)[0])["key"]
        return key

    def names(self, directory: str = ".") -> set[str]:
        return set(os.listdir(self.directory / directory))


@pytest.fixture
def shell(locales: Path, tmp_path: Path) -> Shell:
    return Shell(locales, tmp_path)


UTF8_KEYS: dict[tuple[str, ...], str] = {}
"""What the locales are compared with, which is asked for once."""


@pytest.fixture
def folder(shell: Shell) -> Path:
    """A directory whose names and content are not ASCII."""
    directory = shell.directory / f"set {SAID}"
    (directory / f"sub {SAID}").mkdir(parents=True)
    (directory / NAME).write_text(SAID)
    (directory / f"sub {SAID}" / NAME).write_text("other")
    return directory


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize(
    "words",
    [
        (f"echo {SAID}",),
        ("echo", SAID),
        ("--var", f"X={SAID}", "echo $X"),
        ("--capture", NAME, f"echo a > {NAME}"),
        ("--input", f"set {SAID}", "ls"),
        (f"cat 'set {SAID}'/*.txt",),
        ("-I", "list", "ls"),
        ("--stdin", f"set {SAID}/{NAME}", "cat"),
    ],
    ids=["line", "words", "var", "capture", "directory", "glob", "list", "stdin"],
)
def test_a_transformation_is_the_same(
    shell: Shell, folder: Path, locale: str, words: tuple[str, ...]
) -> None:
    (shell.directory / "list").write_text(f"set {SAID}/{NAME}\n")
    if words not in UTF8_KEYS:
        UTF8_KEYS[words] = shell.key(UTF8, *words)
    assert shell.key(locale, *words) == UTF8_KEYS[words]


@pytest.mark.parametrize("locale", KINDS)
def test_what_is_computed_in_one_locale_is_known_in_another(shell: Shell, locale: str) -> None:
    line = f"echo {SAID} $X; date +%N"
    first, _ = shell(locale, "seamless-run", "--var", f"X={SAID}", line)
    assert first.startswith(f"{SAID} {SAID}\n")
    assert shell(UTF8, "seamless-run", "--var", f"X={SAID}", line)[0] == first


@pytest.mark.parametrize("locale", KINDS)
def test_a_directory_goes_up_and_comes_back_elsewhere(shell: Shell, folder: Path, locale: str) -> None:
    expected = shell(UTF8, "seamless-checksum", folder.name)[0]
    assert shell(locale, "seamless-checksum", folder.name)[0] == expected
    said = shell(locale, "seamless-upload", folder.name)[1]
    assert f"set {SAID}: 2 files" in said
    (folder / NAME).unlink()
    shutil.rmtree(folder / f"sub {SAID}")
    shell(UTF8, "seamless-download", folder.name)
    assert (folder / f"sub {SAID}" / NAME).read_text() == "other"
    shutil.rmtree(folder / f"sub {SAID}")
    shell(locale, "seamless-download", folder.name)
    assert (folder / f"sub {SAID}" / NAME).read_text() == "other"
    assert (folder / NAME).read_text() == SAID
    assert shell.names() == {folder.name}
    assert json.loads((folder / ".INDEX").read_text()).keys() == {NAME, f"sub {SAID}/{NAME}"}


@pytest.mark.parametrize("isolation", ["auto", "none"])
@pytest.mark.parametrize("locale", KINDS)
def test_results_are_called_as_they_were_written(shell: Shell, locale: str, isolation: str) -> None:
    line = f"mkdir out; echo a > out/{NAME}; echo b > part{SAID}; echo {SAID}"
    words = ("--capture", "out", "--capture", f"*{SAID}:matches", f"{line} > {NAME}", "-y")
    shell(locale, "seamless-run", *words, SEAMLESS_ISOLATION=isolation)
    assert shell.names() == {"out", "matches", NAME, f"{NAME}.CHECKSUM"}
    assert shell.names("out") == {NAME, ".CHECKSUM", ".INDEX"}
    assert shell.names("matches") == {f"part{SAID}", ".CHECKSUM", ".INDEX"}
    assert (shell.directory / NAME).read_text() == f"{SAID}\n"


@pytest.mark.parametrize("locale", KINDS)
def test_settings_may_name_such_places(shell: Shell, folder: Path, locale: str) -> None:
    configuration = Path(shell.environment["XDG_CONFIG_HOME"]) / "seamless" / "config.toml"
    configuration.parent.mkdir(parents=True)
    places = [f'{key} = "{shell.directory}/{key} {SAID}"\n' for key in ("store", "cache")]
    configuration.write_text("".join(places))
    del shell.environment["SEAMLESS_CACHE"]
    shell(locale, "seamless-upload", folder.name)
    shell(locale, "seamless-upload", folder.name, SEAMLESS_STORE=f"other-{SAID}")
    assert shell.names() == {folder.name, f"store {SAID}", f"cache {SAID}", f"other-{SAID}"}


@pytest.mark.parametrize("locale", KINDS)
def test_a_name_that_is_not_utf8_is_refused_everywhere(shell: Shell, locale: str) -> None:
    (shell.directory / "set").mkdir()
    open(os.fsencode(shell.directory / "set") + b"/\xe9.txt", "w").close()
    assert "is not UTF-8" in shell(locale, "seamless-upload", "set", status=1)[1]
    assert "not UTF-8" in shell(locale, "seamless-run", "echo \udce9", status=2)[1]


@pytest.mark.parametrize("locale", KINDS)
def test_the_command_has_the_environment_that_it_has_everywhere(shell: Shell, locale: str) -> None:
    assert shell(locale, "seamless-run", "env | grep -E '^(LANG|LC_|PYTHON)' | sort")[0].splitlines() == [
        "LANG=C.UTF-8",
        "PYTHONNOUSERSITE=1",
    ]


@pytest.fixture
def daskserver(shell: Shell, request: pytest.FixtureRequest) -> Iterator[str]:
    """The connection file of a daskserver in the locale of the parameter."""
    facts = shell(request.param, "seamless-daskserver", "start", "--workers", "1", "--json")[0]
    yield json.loads(facts)["connection"]
    shell(UTF8, "seamless-daskserver", "stop")


@pytest.mark.parametrize(
    ("daskserver", "locale"),
    [("en_US.ISO-8859-1", UTF8), ("en_US.ISO-8859-15", "C")],
    indirect=["daskserver"],
)
def test_client_and_daskserver_have_different_locales(
    shell: Shell, folder: Path, daskserver: str, locale: str
) -> None:
    line = f"mkdir out; cat 'set {SAID}/{NAME}' > out/{NAME}; echo $X >> out/{NAME}"
    words = ("--var", f"X={SAID}", "--capture", "out", line)
    shell(locale, "seamless-run", *words, SEAMLESS_DASKSERVER=daskserver)
    assert shell.names("out") == {NAME, ".CHECKSUM", ".INDEX"}
    assert (shell.directory / "out" / NAME).read_text() == f"{SAID}{SAID}\n"
    assert shell.key(locale, *words) == shell.key(UTF8, *words)


LIBRARY = """
import json, sys
from contextlib import nullcontext
from distributed import Client
from seamless_dask import Directory, bash

def compute(said, directory, where, isolation):
    folder = Directory(directory)
    line = f"mkdir out; cat set/*.txt > out/{said}; echo {said} $X > part{said}"
    declared = {"results": "out", "globs": f"*{said}", "isolation": isolation}
    tf = bash(line, {"set": folder}, variables={"X": said}, **declared)
    ours = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with Client(**ours) if where == "worker" else nullcontext():
        found = tf.compute(**{} if where == "worker" else {"scheduler": "synchronous"})
    found["out"].save("saved")
    names = [sorted(directory.index()) for directory in (folder, found["out"], found[f"*{said}"])]
    text = found[f"*{said}"][f"part{said}"].read_text()
    return {"folder": folder.checksum, "key": tf.key, "names": names, "text": text}

if __name__ == "__main__":
    print(json.dumps(compute(SAID, *sys.argv[1:]) | {"encoding": sys.getfilesystemencoding()}))
""".replace("SAID", repr(SAID))


@pytest.mark.parametrize(
    ("locale", "where", "isolation"),
    [
        ("en_US.ISO-8859-1", "process", "auto"),
        ("en_US.ISO-8859-15", "process", "none"),
        ("en_US.ISO-8859-1", "worker", "none"),
        ("en_US.ISO-8859-15", "worker", "auto"),
    ],
)
def test_in_somebody_elses_python(
    shell: Shell, folder: Path, locale: str, where: str, isolation: str
) -> None:
    (shell.directory / "program.py").write_text(LIBRARY)

    def told(locale: str, where: str, **environment: str) -> Any:
        words = ("python", "program.py", folder.name, where, isolation)
        return json.loads(shell(locale, *words, **environment)[0])

    here = told(locale, where)
    assert here.pop("encoding") == {"en_US.ISO-8859-1": "iso8859-1"}.get(locale, "iso8859-15")
    assert here["names"] == [[f"sub {SAID}/{NAME}", NAME], [SAID], [f"part{SAID}"]]
    assert here["text"] == f"{SAID} {SAID}\n"
    assert shell.names("saved") == {SAID}
    elsewhere = told(UTF8, "process", SEAMLESS_CACHE=str(shell.directory / "cache"))
    assert elsewhere.pop("encoding") == "utf-8"
    assert here == elsewhere


RULES = """
import json, sys
from hashserver.checksum import hash_bytes
from hashserver.workspace.survey import judge_of

rules, member = SAID + "/.seamlessignore", SAID + "/a.tmp"
index = {rules: hash_bytes(b"*.tmp"), member: hash_bytes(b"a")}
out = judge_of(sys.argv[1], index, None, False).of(list(index))
print(json.dumps([sys.getfilesystemencoding(), out == {member}]))
""".replace("SAID", repr(SAID))


@pytest.mark.parametrize("locale", MADE)
def test_rules_in_a_folder_are_found_in_somebody_elses_python(shell: Shell, locale: str) -> None:
    rules = shell.directory / "set" / SAID / ".seamlessignore"
    rules.parent.mkdir(parents=True)
    rules.write_text("*.tmp")
    (shell.directory / "program.py").write_text(RULES)
    encoding, is_found = json.loads(shell(locale, "python", "program.py", "set")[0])
    assert encoding != "utf-8"
    assert is_found
