"""Settings as files, variables and options write them: read with care, since some files are strangers'.

A settings file is read once, as far as `MAX_BYTES`, and never waited for: what is checked is what is used.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import read_regular
from hashserver.system_text import each, from_system, to_system

from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

FILE = "seamless.toml"
MAX_BYTES = 256 << 10
ISOLATIONS = ("auto", "bubblewrap", "none")
_LISTS = ("store", "databases")
_MODULES = ("own_modules", "library_modules")
_PLACES = ("cache", "database", "hashserver", "daskserver", "token_file", "ca_file", "node_cache")
STORAGE_OPTIONS = "storage_options"
KEYS = (*_LISTS, *_PLACES, *_MODULES, "isolation", "node_cache_size", "store_timeout", STORAGE_OPTIONS)
CREDENTIALS = "credentials"
DASK = "dask.config (seamless)"
"""What errors call Dask's configuration."""
SYSTEMS = ("slurm", "pbs", "lsf", "oar", "sge", "htcondor")
"""Batch systems; what Dask's configuration says of these is about clusters."""
_OF_CLUSTERS = ("worker_cache", "worker_idle_timeout", *SYSTEMS)
NODE_CACHE_SIZE = 20 << 30
"""Bytes, where nothing else is said."""
STORE_SECONDS = 60.0
"""How long a store may show no progress, where nothing else is said."""
_SCHEDULERS = ("tcp://", "tls://")
_UNITS = {"": 1, "k": 10, "m": 20, "g": 30, "t": 40}
_LONGEST = 60
_MOST_DOTS = 200
"""In a line: the library takes a minute for a key of a hundred thousand parts."""


class Settings(NamedTuple):
    """What one file says; paths are absolute."""

    path: str
    data: bytes
    """The bytes that all of this was read from."""
    top: dict[str, Any]
    profiles: dict[str, dict[str, Any]]
    profile: str | None
    """The profile that it asks for; a project's file may, and Dask's configuration."""
    credentials: dict[str, dict[str, Any]]
    """``token_file`` and ``ca_file`` by the address of the server that they are for."""

    def layers(self, profile: str | None) -> list[dict[str, Any]]:
        """Return what counts of it, the first one first."""
        return [self.profiles[profile], self.top] if profile in self.profiles else [self.top]


def users_directory(environment: Mapping[str, str]) -> str:
    """Return the directory of the user's own configuration."""
    base = environment.get("XDG_CONFIG_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.config"), "seamless")


def default_cache(environment: Mapping[str, str]) -> str:
    """Return the cache directory of those who name none."""
    base = environment.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "seamless")


def users_settings(environment: Mapping[str, str]) -> Settings | None:
    """Return what the user's own configuration says."""
    path = os.path.join(users_directory(environment), "config.toml")
    if not os.path.exists(path):
        return None
    found = read(path)
    if any(STORAGE_OPTIONS in table for table in (found.top, *found.profiles.values())):
        from .private import warn_of_readers

        warn_of_readers(path, "storage options")
    return found


def project_settings(directory: str) -> Settings | None:
    """Return what the nearest ``seamless.toml`` says, from `directory` upwards."""
    path = find(directory)
    return None if path is None else read(path, of_project=True)


def dask_section() -> Any:
    """Return what Dask's configuration has under ``seamless``, in a process that has loaded it; else None."""
    return getattr(sys.modules.get("dask.config"), "config", {}).get("seamless")


def dask_settings(directory: str) -> Settings | None:
    """Return what that says; paths are relative to `directory`, and None is not said.

    Raises
    ------
    UsageError
        It has an unknown key or a bad value.
    """
    section = dask_section()
    if not section:
        return None
    if not isinstance(section, dict):
        raise UsageError(f"{DASK} must be keys and values, not {shown(section)}")
    said = {str(key): value for key, value in section.items() if value is not None}
    said = {key: value for key, value in said.items() if key.replace("-", "_") not in _OF_CLUSTERS}
    return _settings(DASK, b"", said, directory, may=("profile", CREDENTIALS))


def find(directory: str) -> str | None:
    """Return the path of the nearest ``seamless.toml``, from `directory` upwards; no link leads there."""
    for path in candidates(directory):
        if os.path.exists(path):
            _refuse_stranger(path)
            return path
    return None


def candidates(directory: str) -> Iterator[str]:
    """Yield where a ``seamless.toml`` is looked for, the nearest place first."""
    here, below = os.path.realpath(directory), ""
    while here != below:
        yield os.path.join(here, FILE)
        below, here = here, os.path.dirname(here)


def _refuse_stranger(path: str) -> None:
    """Refuse a file that anybody could have put there: it says where data goes and comes from."""
    owner, parent = os.stat(path).st_uid, os.stat(os.path.dirname(path)).st_mode
    if owner not in (0, os.geteuid()) and parent & 0o002:
        raise UsageError(
            f"{path} belongs to another user and lies in a directory that everybody may write to:"
            " work in a directory of your own"
        )


def read(path: str, *, of_project: bool = False) -> Settings:
    """Read a file.

    Raises
    ------
    UsageError
        It cannot be read, is none of settings, or has an unknown key or a bad value.
    """
    data = read_bytes(path)
    return parse(path, data, of_project=of_project)


def read_bytes(path: str) -> bytes:
    """Return the content of a regular file of settings; another kind of file is not waited for."""
    try:
        data = read_regular(path, MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} is longer than settings may be ({MAX_BYTES >> 10} KiB)")
    return data


def parse(path: str, data: bytes, *, of_project: bool = False) -> Settings:
    """Return what the content of a file says; raises as `read`."""
    may = ("profile",) if of_project else (CREDENTIALS,)
    return _settings(path, data, _toml(path, data), os.path.dirname(path), may)


def _settings(path: str, data: bytes, top: dict[str, Any], where: str, may: Collection[str]) -> Settings:
    """Return what a table says; `may` are those of "profile" (ask for one) and "credentials" that it may."""
    profiles: Any = top.pop("profile", {})
    profile: str | None = None
    if "profile" in may and isinstance(profiles, str) and profiles:
        profiles, profile = {}, profiles
    if not _are_tables(profiles):
        raise UsageError(f"{path}: 'profile' must be tables such as [profile.cluster]")
    return Settings(
        path,
        data,
        profiles={name: checked(table, path, where, f"profile.{name}") for name, table in profiles.items()},
        profile=profile,
        credentials=_credentials(top.pop(CREDENTIALS, {}), path, where, CREDENTIALS in may),
        top=checked(top, path, where),
    )


def _toml(path: str, data: bytes) -> dict[str, Any]:
    import tomllib

    if any(line.count(b".") > _MOST_DOTS for line in data.split(b"\n")):
        raise UsageError(f"{path} has a line with more than {_MOST_DOTS} dots, which settings have not")
    try:
        found: dict[str, Any] = each(tomllib.loads(data.decode()), to_system)
        return found
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply for settings") from None
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {str(error)[:200]}") from None


def _are_tables(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(table, dict) for table in value.values())


def _credentials(tables: Any, path: str, directory: str, may: bool) -> dict[str, dict[str, Any]]:
    if tables and not may:
        raise UsageError(f"{path}: [{CREDENTIALS}] belongs in your own configuration, not in a project's")
    if not _are_tables(tables):
        raise UsageError(
            f"{path}: '{CREDENTIALS}' must be tables such as [{CREDENTIALS}.\"https://host:port\"]"
        )
    found = {}
    for url, table in tables.items():
        within = f"{CREDENTIALS}.{shown(url)}"
        if not url.lower().startswith(("http://", "https://")):
            raise UsageError(f"{path}: {within}: a credential is for an http:// or https:// address")
        found[url] = checked(table, path, directory, within, ("token_file", "ca_file"))
    return found


def from_environment(environment: Mapping[str, str], directory: str) -> dict[str, Any]:
    """Return what ``SEAMLESS_*`` variables say."""
    layer: dict[str, Any] = {}
    for key in KEYS:
        name = "SEAMLESS_" + key.upper()
        text = environment.get(name)
        if text and key == STORAGE_OPTIONS:
            layer[key] = _options_of_file(_place(text, directory), name)
        elif text:
            value = text.split() if key in (*_LISTS, *_MODULES) else text
            layer[key] = _value(key, value, f"environment: {name}", directory)
    return layer


def checked(
    layer: Mapping[str, Any],
    source: str,
    directory: str,
    within: str = "",
    keys: tuple[str, ...] = KEYS,
) -> dict[str, Any]:
    """Check keys and values of one table; in keys a dash is an underscore.

    Parameters
    ----------
    source, within
        What errors call the file and the table.
    directory
        What paths are relative to.
    keys
        Those that there are.

    Raises
    ------
    UsageError
        It names source and key.
    """
    found: dict[str, Any] = {}
    for written, value in layer.items():
        key, name = written.replace("-", "_"), f"{within}.{written}".lstrip(".")
        if key not in keys:
            raise UsageError(f"{source}: unknown key {shown(name)}; known are {', '.join(keys)}")
        if key in found:
            raise UsageError(f"{source}: {name} is there twice, with a dash and with an underscore")
        found[key] = _value(key, value, f"{source}: {name}", directory)
    return found


def _value(key: str, value: Any, where: str, directory: str) -> Any:
    if key in _LISTS:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) and item for item in items):
            raise UsageError(f"{where} must be a text or a list of texts")
        for item in items:
            if "://" not in item and "::" in item.partition("/")[0]:  # it would be taken for a directory
                raise UsageError(f"{where}: {shown(item)} is no store: a chain of file systems (::)")
        return tuple(_place(item, directory) for item in items)
    if key in _MODULES:
        return _modules(value, where)
    if key == "node_cache_size":
        size = parse_size(int(value) if isinstance(value, str) and value.isdecimal() else value)
        if size is None:
            raise UsageError(f"{where} must be a size such as '20 GiB', not {shown(value)}")
        return size
    if key == "store_timeout":
        return _seconds(value, where)
    if key == STORAGE_OPTIONS:
        return _options(value, where)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where} must be a text, not {shown(value)}")
    if key == "isolation" and value not in ISOLATIONS:
        raise UsageError(f"{where} must be one of {', '.join(ISOLATIONS)}, not {shown(value)}")
    if key == "hashserver" and not value.startswith(("http://", "https://")):
        raise UsageError(f"{where} must be an http:// or https:// URL, not {shown(value)}")
    if key == "daskserver" and "://" in value and not is_address(value):
        raise UsageError(
            f"{where} must be the path of a connection file, or a tcp:// or tls:// address,"
            f" not {shown(value)}"
        )
    return value if key == "isolation" else _place(value, directory)


def _modules(value: Any, where: str) -> tuple[str, ...]:
    """Return names of modules, with all below them."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(
        isinstance(name, str) and all(part.isidentifier() for part in name.split(".")) for name in names
    ):
        raise UsageError(f"{where} must be names of modules such as 'package.part', not {shown(value)}")
    return tuple(names)


def _options(tables: Any, where: str) -> dict[str, dict[str, Any]]:
    """Return tables of storage options by the URL that they are for."""
    from hashserver.errors import InvalidRequest
    from hashserver.storage.options import check

    if not isinstance(tables, dict):
        raise UsageError(f'{where} must be tables such as [storage_options."s3://bucket"]')
    source = where.rpartition(": ")[0]
    try:
        # passwords are for servers, not for the system
        return {to_system(url): check(url, each(table, from_system), source) for url, table in tables.items()}
    except InvalidRequest as error:
        raise UsageError(str(error)) from None


def _options_of_file(path: str, named_by: str) -> dict[str, dict[str, Any]]:
    """Return what the file of a variable says: workers are handed theirs so."""
    from hashserver.errors import InvalidRequest
    from hashserver.storage.options import read as read_options

    try:
        return {one.prefix: one.arguments for one in read_options(path)}
    except InvalidRequest as error:
        raise UsageError(f"{named_by}: {error}") from None


def _seconds(value: Any, where: str) -> float:
    try:
        seconds = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0.1 <= seconds <= 1e6:
        raise UsageError(f"{where} must be a number of seconds such as 60, not {shown(value)}")
    return seconds


def _place(text: str, directory: str) -> str:
    """Make a path absolute, relative to the file that names it; leave a URL alone."""
    if "\0" in text:
        raise UsageError(f"{shown(text)} names no place: it has a NUL character")
    if "://" in text:
        return text.rstrip("/") if text.startswith("http") else text
    return os.path.normpath(os.path.join(directory, os.path.expanduser(text)))


def is_address(daskserver: str) -> bool:
    """Say whether this is the address of a scheduler and not the path of a connection file."""
    return daskserver.startswith(_SCHEDULERS)


def parse_size(text: object) -> int | None:
    """Read a number of bytes such as ``4096``, ``"500M"``, ``"1.5 GiB"`` (powers of 1024); else None."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text if text >= 0 else None
    if not isinstance(text, str):
        return None
    number = text.strip().lower().removesuffix("b").removesuffix("i").strip()
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        size = float(number.removesuffix(unit)) * (1 << _UNITS[unit] if unit else 1)
        return int(size) if size >= 0 else None
    except (ValueError, KeyError, OverflowError):
        return None


def shown(value: object) -> str:
    """Return a value as an error line may show it: short, and without what moves a cursor."""
    if isinstance(value, str | int | float | bool):
        try:
            text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
        except ValueError:  # a number of too many digits
            text = "that number"
    elif isinstance(value, tuple | list) and all(isinstance(item, str) for item in value[:9]):
        text = ", ".join(map(shown, value[:9]))
    else:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 2 * _LONGEST else f"{text[:_LONGEST]}…{text[-_LONGEST:]}"
