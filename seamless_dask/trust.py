"""What a project's ``seamless.toml`` may say: what cannot harm, and what the user has trusted.

Whoever clones a repository has not read what it sets. So without trust a project's file may ask for a profile
of the user's own, for stricter isolation and for tighter bounds; whatever else it names, keys of later
releases too, counts only while the file is the one that ``seamless trust`` has recorded: its real directory,
its bytes, and those of the local files that it names. Each project has a record of its own, which appears and
goes as a whole.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import Untrusted, UsageError
from .origins import lies_in
from .settings import (
    FILE,
    NODE_CACHE_SIZE,
    STORAGE_OPTIONS,
    STORE_SECONDS,
    default_cache,
    find,
    is_address,
    read,
    read_bytes,
    shown,
    users_directory,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from .settings import Settings

DIRECTORY = "trust"
_STRICTNESS = ("none", "auto", "bubblewrap")
_BOUNDS = {"node_cache_size": NODE_CACHE_SIZE, "store_timeout": STORE_SECONDS}
_FILES = ("ca_file", "daskserver")
"""Keys that name local files whose content counts: certificates, and connection files of others."""
_FREE_OPTIONS = {"anon": (True,), "requester_pays": (True, False)}
"""Storage options that a trusted project may set, and to what. All others may say where requests go, with
which of the user's secrets, or how well these are protected on their way."""


class Record(NamedTuple):
    """What was trusted."""

    path: str
    sha256: str
    files: dict[str, str]
    """Checksums of the local files that it names, by their paths; empty for one that is not there."""
    trusted: float
    """When, in seconds since the epoch."""

    def holds(self, project: Settings, environment: Mapping[str, str]) -> bool:
        """Say whether nothing has changed."""
        return self.path == project.path and (self.sha256, self.files) == _checksums(project, environment)


def command(path: str) -> str:
    """Return the line that trusts a file."""
    return f"seamless trust {shlex.quote(os.path.dirname(path))}"


def admitted(
    project: Settings,
    theirs: Sequence[Mapping[str, Any]],
    above: Sequence[Mapping[str, Any]],
    below: Sequence[Mapping[str, Any]],
    ignored: Collection[str],
    environment: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the layers of a project's file as far as they count.

    Parameters
    ----------
    theirs
        Its layers.
    above, below
        Those of the user, before and after it.
    ignored
        Keys that are not asked for.

    Raises
    ------
    Untrusted
        It names what neither goes without trust nor is named by the user before it.
    """
    settled = _settled(above) | set(ignored)
    layers = [{key: value for key, value in layer.items() if key not in settled} for layer in theirs]
    wanted: dict[str, Any] = {}
    for layer in reversed(layers):
        wanted |= {key: value for key, value in layer.items() if not _is_harmless(key, value, below)}
    if not wanted:
        return layers
    record = _recorded(project.path, environment)
    if record is None or not record.holds(project, environment):
        raise _untrusted(project, wanted, changed=record is not None)
    _refuse_secrets(project)
    return [_with_kept_files(layer, record, environment) for layer in layers]


def _untrusted(project: Settings, wanted: Mapping[str, Any], *, changed: bool) -> Untrusted:
    named = ", ".join(_told(wanted))
    how = "has changed since it was trusted" if changed else "is not trusted"
    return Untrusted(
        f"{project.path} {how}, and sets {named}: {command(project.path)} if you want that", project
    )


def _settled(above: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the keys that the user has said before a project's file is asked, or has made pointless."""
    said = {key for layer in above for key in layer}
    daskserver = next((layer["daskserver"] for layer in above if "daskserver" in layer), None)
    names_file = daskserver is not None and not is_address(daskserver)
    if "hashserver" in said or names_file or {"store", "database"} <= said:
        said |= {"hashserver", "store", "database", "token_file", "ca_file", STORAGE_OPTIONS}
    return said


def _is_harmless(key: str, value: Any, below: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a key may be set without trust: it binds, and more tightly than what else would hold."""
    if key == "isolation":
        without = next((layer[key] for layer in below if key in layer), "auto")
        return _STRICTNESS.index(value) >= _STRICTNESS.index(without)
    if key in _BOUNDS:
        return bool(value <= next((layer[key] for layer in below if key in layer), _BOUNDS[key]))
    return False


def _refuse_secrets(project: Settings) -> None:
    """Refuse what belongs in the user's own configuration, trusted or not."""
    for table in _tables(project):
        if "token_file" in table:
            raise UsageError(
                f"{project.path}: token_file belongs in your own configuration, bound to its server:"
                ' [credentials."https://host:port"]'
            )
        for url, options in table.get(STORAGE_OPTIONS, {}).items():
            if wrong := [key for key, value in options.items() if not _is_free(key, value)]:
                raise UsageError(
                    f"{project.path}: storage option {shown(wrong[0])} of {shown(url)} belongs in your own"
                    f" configuration: a project may set {', '.join(_FREE_OPTIONS)} only"
                )


def _is_free(key: str, value: object) -> bool:
    return any(value is one for one in _FREE_OPTIONS.get(key, ()))


def _told(layer: Mapping[str, Any]) -> list[str]:
    """Return what a table sets, a text each; of storage options none that may be a secret."""
    texts = [f"{key} = {shown(value)}" for key, value in layer.items() if key != STORAGE_OPTIONS]
    for url, options in layer.get(STORAGE_OPTIONS, {}).items():
        keys = [key if key in _FREE_OPTIONS else shown(key) for key in options]
        texts.append(f"storage options of {shown(url)} ({', '.join(keys)})")
    return texts


# ---------------------------------------------------------------------- records


def trust(
    directory: str, profile: str | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Trust the project file that counts in `directory`, as it is now.

    Parameters
    ----------
    profile
        One that it must have.

    Returns
    -------
    Settings
        What it says.

    Raises
    ------
    UsageError
        There is none, or it says what no project may.
    """
    path = find(directory)
    if path is None:
        raise UsageError(f"there is no {FILE} in {os.path.realpath(directory)} or above it")
    project = read(path, of_project=True)
    if profile is not None and profile not in project.profiles:
        raise UsageError(f"no profile {shown(profile)} in {path}")
    accept(project, environment)
    return project


def accept(project: Settings, environment: Mapping[str, str] | None = None) -> None:
    """Record a project's file as it was read; raises `UsageError` when it says what no project may."""
    from hashserver.atomic import write_atomic
    from hashserver.checksum import hash_bytes

    from .private import private_directory

    _refuse_secrets(project)
    environment = os.environ if environment is None else environment
    directory = _directory(environment)
    private_directory(directory, "XDG_CONFIG_HOME")
    name, (checksum, contents) = _name(project.path), _contents(project, environment)
    files = {file: str(hash_bytes(data)) if data is not None else "" for file, data in contents.items()}
    for file, data in contents.items():
        if data is not None:
            write_atomic(_kept(directory, name, files[file]), data, 0o600)
    record = Record(project.path, checksum, files, time.time())
    write_atomic(os.path.join(directory, name), json.dumps(record._asdict(), indent=2).encode(), 0o600)
    _sweep(directory, name, {_kept(directory, name, checksum) for checksum in files.values()})


def forget(directory: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Trust the file of `directory` no more, or the next one above; returns the path of what was trusted."""
    here, records = os.path.realpath(directory), _directory(environment)
    while True:
        path = os.path.join(here, FILE)
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(records, _name(path)))
            _sweep(records, _name(path), set())
            return path
        if here == os.path.dirname(here):
            return None
        here = os.path.dirname(here)


def records(environment: Mapping[str, str] | None = None) -> list[tuple[Record, str]]:
    """Return what is trusted, each with its state: ``trusted``, ``changed`` or ``gone``."""
    environment = os.environ if environment is None else environment
    directory = _directory(environment)
    found: list[tuple[Record, str]] = []
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(directory)):
            record = _read(os.path.join(directory, name)) if name.endswith(".json") else None
            if record is not None:
                found.append((record, _state(record, environment)))
    return sorted(found)


def _state(record: Record, environment: Mapping[str, str]) -> str:
    if not os.path.exists(record.path):
        return "gone"
    with suppress(UsageError):
        if record.holds(read(record.path, of_project=True), environment):
            return "trusted"
    return "changed"


def _recorded(path: str, environment: Mapping[str, str]) -> Record | None:
    return _read(os.path.join(_directory(environment), _name(path)))


def _read(file: str) -> Record | None:
    """Read a record; what others could have written is none."""
    try:
        with open(file, "rb") as opened:
            status = os.fstat(opened.fileno())
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                return None
            document = json.load(opened)
        record = Record(**document)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return record if isinstance(record.path, str) and isinstance(record.files, dict) else None


def _directory(environment: Mapping[str, str] | None) -> str:
    return os.path.join(users_directory(os.environ if environment is None else environment), DIRECTORY)


def _name(path: str) -> str:
    """Return the name of the record of a project's file."""
    from hashserver.checksum import hash_bytes

    return f"{hash_bytes(os.fsencode(path))[:32]}.json"


def _tables(project: Settings) -> Iterator[dict[str, Any]]:
    yield project.top
    yield from project.profiles.values()


def _checksums(project: Settings, environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the checksum of a project's file, and those of the local files that it names."""
    from hashserver.checksum import hash_bytes

    checksum, contents = _contents(project, environment)
    return checksum, {file: "" if data is None else str(hash_bytes(data)) for file, data in contents.items()}


def _contents(project: Settings, environment: Mapping[str, str]) -> tuple[str, dict[str, bytes | None]]:
    """Return the checksum of a project's file, and the content of the local files that it names."""
    from hashserver.checksum import hash_bytes

    contents: dict[str, bytes | None] = {}
    for file in sorted(_local_files(project, environment)):
        contents[file] = None
        with suppress(UsageError):
            contents[file] = read_bytes(file)
    return str(hash_bytes(project.data)), contents


def _local_files(project: Settings, environment: Mapping[str, str]) -> set[str]:
    named = {table[key] for table in _tables(project) for key in _FILES if key in table}
    # what our own daskservers write changes at each start
    own = os.path.join(environment.get("SEAMLESS_CACHE") or default_cache(environment), "daskserver")
    return {file for file in named if not is_address(file) and not lies_in(file, own)}


def _kept(directory: str, name: str, checksum: str) -> str:
    return os.path.join(directory, f"{name}.{checksum[:32]}")


def _sweep(directory: str, name: str, kept: Collection[str]) -> None:
    """Remove copies of files that a record has named before."""
    for other in os.listdir(directory):
        path = os.path.join(directory, other)
        if other.startswith(f"{name}.") and path not in kept:
            with suppress(FileNotFoundError):
                os.unlink(path)


def _with_kept_files(
    layer: Mapping[str, Any], record: Record, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return a layer that names our copies of its files: the originals may change until they are used."""
    found = dict(layer)
    if checksum := record.files.get(found.get("ca_file", "")):
        found["ca_file"] = _kept(_directory(environment), _name(record.path), checksum)
    return found


def wishes(project: Settings, profile: str | None = None) -> list[str]:
    """Return what a project's file sets, a line each, as a person may be shown it.

    Parameters
    ----------
    profile
        The only one of its profiles that is shown.
    """
    lines = _told(project.top)
    for name, table in project.profiles.items():
        if profile not in (None, name):
            continue
        lines += [f"[profile.{shown(name)}] {text}" for text in _told(table)]
    if project.profile:
        lines.append(f"profile = {shown(project.profile)}")
    return lines
