"""Where things are: command line, environment, ``seamless.toml``, the user's file, embedded default.

Each key is looked for in that order and the first that names it wins. Within one file a table
``[profile.NAME]`` comes before what the file says outside of tables. Who names a ``hashserver`` thereby
names it as ``store`` and ``database`` too, unless these stand beside it; who names the connection file of a
``daskserver`` names the hashserver of that, with its token and certificates.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.regular import read_regular

from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FILE = "seamless.toml"
READY_FILE = "hashserver.json"
ISOLATIONS = ("auto", "bubblewrap", "none")
NODE_CACHE_SIZE = 20 << 30

_LISTS = ("store", "databases")
_PLACES = ("cache", "database", "hashserver", "daskserver", "token_file", "ca_file", "node_cache")
KEYS = (*_LISTS, *_PLACES, "isolation", "node_cache_size")
_SCHEDULERS = ("tcp://", "tls://")
_UNITS = {"": 1, "k": 10, "m": 20, "g": 30, "t": 40}


class Config(NamedTuple):
    """Where buffers and results are kept, and how commands are isolated.

    Attributes
    ----------
    cache : str
        Directory (0700) of everything that is this user's and can be made again.
    stores : tuple of str
        Places of buffers, in the order they are asked; the first that can be written to is.
    database : str
        Path of the result database, or URL of a hashserver.
    databases : tuple of str
        Further ones that are only read.
    hashserver, token_file, ca_file : str or None
        The server that was named, the file with its token, and the certificates it is checked with.
    isolation : str
        One of `ISOLATIONS`.
    node_cache, node_cache_size
        Directory and bound (bytes) of the cache of inputs that the tasks of one node share.
    profile : str or None
        The profile that was asked for.
    daskserver : str or None
        Path of the connection file of the daskserver that computes, or a scheduler's ``tcp://`` or
        ``tls://`` address; None: this host does.
    """

    cache: str
    stores: tuple[str, ...]
    database: str
    databases: tuple[str, ...]
    hashserver: str | None
    token_file: str | None
    ca_file: str | None
    isolation: str
    node_cache: str
    node_cache_size: int
    profile: str | None
    daskserver: str | None = None


def load(
    options: Mapping[str, Any] | None = None,
    directory: str | None = None,
    environment: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    *,
    remote: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Config:
    """Put the configuration together.

    Parameters
    ----------
    options : mapping
        What the command line says, by the names of `KEYS` and ``profile``; None values are not said.
    directory : str
        Where the search for ``seamless.toml`` begins; the current directory by default.
    environment : mapping
        ``os.environ`` by default.
    defaults : mapping
        What holds where nobody says otherwise, by the names of `KEYS`.
    remote : bool
        False: a daskserver that is named is as if it were not.
    tell : callable
        Gets what a person should know who waits for a daskserver that is being started.

    Raises
    ------
    UsageError
        For an unknown key, a bad value, a profile that no file has; it names file and key.
    """
    environment = os.environ if environment is None else environment
    directory = os.getcwd() if directory is None else directory
    said = {key: value for key, value in (options or {}).items() if value is not None}
    profile = said.pop("profile", None) or environment.get("SEAMLESS_PROFILE") or None
    layers = [
        _checked(said, "the command line", directory),
        _from_environment(environment, directory),
        *_from_files(_files(directory, environment), profile),
        _checked(defaults or {}, "the scheduler", directory),
    ]
    if not remote:
        layers = [{key: value for key, value in layer.items() if key != "daskserver"} for layer in layers]
    found: dict[str, Any] = {}
    for layer in _with_implied(layers, tell):
        if "hashserver" in layer:
            if found.pop("implied", False):  # the token of a daskserver is not for another server
                found |= {"token_file": None, "ca_file": None}
            found |= {"store": (layer["hashserver"],), "database": layer["hashserver"]}
        found |= layer
    return _complete(found, profile, environment)


def embedded(config: Config) -> Config:
    """Return `config` with the store and the database of its cache, and no server of any kind."""
    return config._replace(
        stores=_default_stores(config.cache, None, None),
        database=_default_database(config.cache),
        hashserver=None,
        token_file=None,
        ca_file=None,
        daskserver=None,
    )


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


def _complete(found: dict[str, Any], profile: str | None, environment: Mapping[str, str]) -> Config:
    cache = found.get("cache") or _default_cache(environment)
    server = found.get("hashserver")
    token_file, ca_file = found.get("token_file"), found.get("ca_file")
    directory = None
    address = is_address(found.get("daskserver") or "")
    if not {"store", "database"} & set(found) and not address:
        ready = _running_server(cache)
        directory = ready.get("store") if ready.get("host") == os.uname().nodename else None
        server, token_file = ready.get("url"), token_file or ready.get("token_file")
        ca_file = ca_file or ready.get("ca_file")
    return Config(
        cache=cache,
        stores=found.get("store") or _default_stores(cache, server, directory),
        database=found.get("database") or server or _default_database(cache),
        databases=found.get("databases") or (),
        hashserver=server,
        token_file=token_file,
        ca_file=ca_file,
        isolation=found.get("isolation") or "auto",
        node_cache=found.get("node_cache") or os.path.join(cache, "node"),
        node_cache_size=found.get("node_cache_size", NODE_CACHE_SIZE),
        profile=profile,
        daskserver=found.get("daskserver"),
    )


def _with_implied(
    layers: list[dict[str, Any]], tell: Callable[[str], None] | None
) -> Iterator[dict[str, Any]]:
    """Yield the layers, the last one first, with what the daskserver implies before the one that names it."""
    first = next((layer for layer in layers if "daskserver" in layer), {})
    for layer in reversed(layers):
        if layer is first and not is_address(layer["daskserver"]):
            yield _implied(layer["daskserver"], tell)
        yield layer


def _implied(daskserver: str, tell: Callable[[str], None] | None) -> dict[str, Any]:
    """Return what else is named with a daskserver: its hashserver, directly where it is on this host."""
    from .services.connection import read_when_started

    facts = read_when_started(daskserver, tell)
    direct = facts.is_here and os.path.isabs(facts.store) and os.access(facts.store, os.R_OK | os.X_OK)
    return {
        "hashserver": facts.hashserver,
        "store": (facts.store, facts.hashserver) if direct else (facts.hashserver,),
        "database": facts.hashserver,
        "token_file": facts.hashserver_token_file,
        "ca_file": facts.hashserver_ca_file,
        "implied": True,
    }


def _default_stores(cache: str, server: str | None, directory: str | None) -> tuple[str, ...]:
    """Return the places of buffers when none is named: what can be reached directly goes first."""
    if server is None:
        return (os.path.join(cache, "buffers"),)
    return (directory, server) if directory else (server,)


def _default_database(cache: str) -> str:
    return os.path.join(cache, "seamless.db")


def _default_cache(environment: Mapping[str, str]) -> str:
    base = environment.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "seamless")


def _running_server(cache: str) -> dict[str, Any]:
    """Return what the server of this cache says of itself, unless it died without a word."""
    try:
        data = read_regular(os.path.join(cache, READY_FILE))
        import json

        ready = json.loads(data)
        if ready.get("host", "") in ("", os.uname().nodename) and not is_hashserver(int(ready["pid"])):
            return {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return ready if isinstance(ready.get("url"), str) else {}


def is_hashserver(pid: int) -> bool:
    """Say whether a process of this account is a hashserver; numbers are used again after a death."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid() and any(b"hashserver" in word for word in words)
    except OSError:
        return False


def _from_environment(environment: Mapping[str, str], directory: str) -> dict[str, Any]:
    layer: dict[str, Any] = {}
    for key in KEYS:
        text = environment.get("SEAMLESS_" + key.upper())
        if text:
            value = text.split() if key in _LISTS else text
            layer |= _checked({key: value}, "environment", directory, "SEAMLESS_" + key.upper())
    return layer


def _files(directory: str, environment: Mapping[str, str]) -> list[str]:
    """Return the nearest project file and the user's file, as far as they are there."""
    base = environment.get("XDG_CONFIG_HOME", "")
    base = base if os.path.isabs(base) else os.path.expanduser("~/.config")
    found, here = [], os.path.abspath(directory)
    while True:
        path = os.path.join(here, FILE)
        if os.path.exists(path):
            _refuse_stranger(path)
            found.append(path)
            break
        if here == os.path.dirname(here):
            break
        here = os.path.dirname(here)
    users = os.path.join(base, "seamless", "config.toml")
    return [*found, users] if os.path.exists(users) else found


def _refuse_stranger(path: str) -> None:
    """Refuse a file that anybody could have put there: it says where data goes and comes from."""
    owner, parent = os.stat(path).st_uid, os.stat(os.path.dirname(path)).st_mode
    if owner not in (0, os.geteuid()) and parent & 0o002:
        raise UsageError(
            f"{path} belongs to another user and lies in a directory that everybody may write to:"
            " work in a directory of your own"
        )


def _from_files(paths: list[str], profile: str | None) -> list[dict[str, Any]]:
    layers, profiles = [], False
    for path in paths:
        top = _read(path)
        tables = top.pop("profile", {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise UsageError(f"{path}: 'profile' must be tables such as [profile.cluster]")
        where = os.path.dirname(path)
        for name, table in tables.items():
            checked = _checked(table, path, where, f"profile.{name}")
            if name == profile:
                profiles = True
                layers.append(checked)
        layers.append(_checked(top, path, where))
    if profile and not profiles:
        raise UsageError(f"no profile {profile!r} in {' or '.join(paths) or FILE}")
    return layers


def _read(path: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(read_regular(path).decode())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None


def _checked(layer: Mapping[str, Any], source: str, directory: str, within: str = "") -> dict[str, Any]:
    """Check keys and values of one layer; `source` and `within` name it in errors."""
    checked = {}
    for key, value in layer.items():
        name = within if source == "environment" else f"{within}.{key}".lstrip(".")
        if key not in KEYS:
            raise UsageError(f"{source}: unknown key {name!r}; known are {', '.join(KEYS)}")
        checked[key] = _value(key, value, f"{source}: {name}", directory)
    return checked


def _value(key: str, value: Any, where: str, directory: str) -> Any:
    if key in _LISTS:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) and item for item in items):
            raise UsageError(f"{where} must be a text or a list of texts")
        return tuple(_place(item, directory) for item in items)
    if key == "node_cache_size":
        size = parse_size(int(value) if isinstance(value, str) and value.isdecimal() else value)
        if size is None:
            raise UsageError(f"{where} must be a size such as '20 GiB', not {value!r}")
        return size
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where} must be a text, not {value!r}")
    if key == "isolation" and value not in ISOLATIONS:
        raise UsageError(f"{where} must be one of {', '.join(ISOLATIONS)}, not {value!r}")
    if key == "hashserver" and not value.startswith(("http://", "https://")):
        raise UsageError(f"{where} must be an http:// or https:// URL, not {value!r}")
    if key == "daskserver" and "://" in value and not is_address(value):
        raise UsageError(
            f"{where} must be the path of a connection file, or a tcp:// or tls:// address, not {value!r}"
        )
    return value if key == "isolation" else _place(value, directory)


def _place(text: str, directory: str) -> str:
    """Make a path absolute, relative to the file that names it; leave a URL alone."""
    if "://" in text:
        return text.rstrip("/") if text.startswith("http") else text
    return os.path.normpath(os.path.join(directory, os.path.expanduser(text)))
