"""Where things are: command line, environment, ``dask.config``, ``seamless.toml``, user's file, default.

Each key is looked for in that order and the first that names it wins. Within one file a table
``[profile.NAME]`` comes before what the file says outside of tables. Who names a ``hashserver`` thereby
names it as ``store`` and ``database`` too, unless these stand beside it; who names the connection file of a
``daskserver`` names the hashserver of that, with its token and certificates. What a project's file says
counts as far as `seamless_dask.trust` admits it; which server is sent a token, `seamless_dask.origins` says.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import open_regular

from . import origins
from .errors import UsageError
from .origins import Credential
from .settings import FILE as FILE
from .settings import ISOLATIONS as ISOLATIONS
from .settings import KEYS as KEYS
from .settings import (
    NODE_CACHE_SIZE,
    STORE_SECONDS,
    checked,
    dask_settings,
    default_cache,
    from_environment,
    project_settings,
    shown,
    users_settings,
)
from .settings import is_address as is_address
from .settings import parse_size as parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from hashserver.ready_file import ReadyFile
    from hashserver.storage.options import StorageOptions

    from .connection import ConnectionFile
    from .settings import Settings

READY_FILE = "hashserver.json"
_OF_SERVERS = ("store", "databases", "database", "hashserver", "daskserver", "token_file", "ca_file")


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
    credentials : tuple of Credential
        What opens which server; see `credential`.
    isolation : str
        One of `ISOLATIONS`.
    node_cache, node_cache_size
        Directory and bound (bytes) of the cache of inputs that the tasks of one node share.
    store_timeout
        Seconds for which nothing may move in a request to a store that fsspec reaches.
    storage_options : tuple of StorageOptions
        What fsspec is told about which stores; see `options_of`.
    own_modules, library_modules : tuple of str
        Modules, with all below them, whose code counts or whose name does, wherever they lie.
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
    credentials: tuple[Credential, ...] = ()
    store_timeout: float = STORE_SECONDS
    storage_options: tuple[StorageOptions, ...] = ()
    own_modules: tuple[str, ...] = ()
    library_modules: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Config:
        """Return what ``_asdict`` gave and has been JSON since, which knows no tuples."""
        found: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
        }
        found["credentials"] = tuple(Credential(*one) for one in document.get("credentials", ()))
        if options := document.get("storage_options"):
            from hashserver.storage.options import StorageOptions

            found["storage_options"] = tuple(StorageOptions(*one) for one in options)
        return cls(**found)

    def credential(self, url: str) -> Credential:
        """Return what is bound to the server of `url`: no other is sent it."""
        return origins.of(self.credentials, url)

    def options_of(self, *urls: str | None) -> tuple[StorageOptions, ...]:
        """Return what is told about some stores, and about no others."""
        from hashserver.storage.options import find

        found = (find(self.storage_options, url) for url in urls if url is not None)
        return tuple(dict.fromkeys(one for one in found if one is not None))


class _Layer(NamedTuple):
    """What one level says."""

    values: Mapping[str, Any]
    own: bool = True
    """Whether the user says it, and not a project's file."""
    credentials: Mapping[str, Mapping[str, Any]] = {}


def load(
    options: Mapping[str, Any] | None = None,
    directory: str | None = None,
    environment: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    *,
    remote: bool = True,
    ignore: Collection[str] = (),
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
    ignore : collection of str
        Further keys that are as if nobody had said them.
    tell : callable
        Gets what a person should know who waits for a daskserver that is being started.

    Raises
    ------
    UsageError
        For an unknown key, a bad value, a profile that no file has; it names file and key.
    Untrusted
        For a project's file that says more than it may without the user's trust.
    """
    environment = os.environ if environment is None else environment
    directory = os.getcwd() if directory is None else directory
    ignored = {*ignore, *(() if remote else ("daskserver",))}
    said = {key: value for key, value in (options or {}).items() if value is not None}
    profile = said.pop("profile", None) or environment.get("SEAMLESS_PROFILE") or None
    above = [checked(said, "the command line", directory), from_environment(environment, directory)]
    dasks = dask_settings(directory)
    project, users = project_settings(directory), users_settings(environment)
    profile = profile or next((file.profile for file in (dasks, project) if file and file.profile), None)
    _refuse_unknown(profile, dasks, project, users)
    above += dasks.layers(profile) if dasks else []
    below = users.layers(profile) if users else []
    told = checked(defaults or {}, "the scheduler", directory)
    theirs = project.layers(profile) if project else []
    if project and any(theirs):
        from .trust import admitted

        theirs = admitted(project, theirs, above, [*below, told], ignored, environment)
    layers = [_Layer({}, credentials=dasks.credentials)] if dasks else []
    layers += [_Layer(values) for values in above]
    layers += [_Layer(values, own=False) for values in theirs]
    layers += [_Layer({}, credentials=users.credentials)] if users else []
    layers += [_Layer(values) for values in (*below, told)]
    kept = [layer._replace(values=_without(layer.values, ignored)) for layer in layers]
    return _Assembly(kept, profile, environment, tell).config()


def load_embedded(options: Mapping[str, Any], directory: str) -> Config:
    """Return the configuration as `load` does, with nothing but the cache for store and database."""
    return embedded(load(options, directory, ignore=_OF_SERVERS))


def _without(layer: Mapping[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if key not in ignored}


def _refuse_unknown(profile: str | None, *files: Settings | None) -> None:
    there = [file for file in files if file is not None]
    if profile and not any(profile in file.profiles for file in there):
        where = " or ".join(file.path for file in there) or FILE
        raise UsageError(f"no profile {shown(profile)} in {where}")


def embedded(config: Config) -> Config:
    """Return `config` with the store and the database of its cache, and no server of any kind."""
    return config._replace(
        stores=_default_stores(config.cache, None, None),
        database=_default_database(config.cache),
        hashserver=None,
        token_file=None,
        ca_file=None,
        daskserver=None,
        credentials=(),
    )


class _Assembly:
    """One configuration out of its layers, the first of which counts most."""

    def __init__(
        self,
        layers: list[_Layer],
        profile: str | None,
        environment: Mapping[str, str],
        tell: Callable[[str], None] | None,
    ) -> None:
        self._layers, self._profile, self._tell = layers, profile, tell
        self._own = [layer for layer in layers if layer.own]
        self._own_cache = self._value("cache", self._own) or default_cache(environment)
        self._bindings = origins.Bindings()
        self._unbound: tuple[str | None, str | None] = None, None
        self._naming = next((layer for layer in layers if "daskserver" in layer.values), None)
        self._implied = self._of_daskserver()

    def config(self) -> Config:
        """Return it."""
        found = self._merged(self._layers)
        self._bind()
        cache = found.get("cache") or self._own_cache
        ready: ReadyFile | None = None
        if not {"store", "database"} & set(found) and not is_address(found.get("daskserver") or ""):
            ready = self._running_server(cache)
            found |= {"hashserver": ready.url} if ready else {}
        server = found.get("hashserver")
        directory = ready.store if ready and ready.host == os.uname().nodename else None
        found |= {
            "store": found.get("store") or _default_stores(cache, server, directory),
            "database": found.get("database") or server or _default_database(cache),
        }
        credentials, meant = self._bindings.all(), origins.servers(found)
        token_file, ca_file = origins.of(credentials, meant[0])[1:] if meant else self._unbound
        return Config(
            cache=cache,
            stores=found["store"],
            database=found["database"],
            databases=found.get("databases") or (),
            hashserver=server,
            token_file=token_file,
            ca_file=ca_file,
            isolation=found.get("isolation") or "auto",
            node_cache=found.get("node_cache") or os.path.join(cache, "node"),
            node_cache_size=found.get("node_cache_size", NODE_CACHE_SIZE),
            store_timeout=found.get("store_timeout", STORE_SECONDS),
            storage_options=self._storage_options(),
            own_modules=found.get("own_modules") or (),
            library_modules=found.get("library_modules") or (),
            profile=self._profile,
            daskserver=found.get("daskserver"),
            credentials=credentials,
        )

    def _storage_options(self) -> tuple[StorageOptions, ...]:
        """Return all tables; of two for one URL the first counts."""
        if not any("storage_options" in layer.values for layer in self._layers):
            return ()
        from hashserver.storage.options import StorageOptions

        tables: dict[tuple[str, bool], StorageOptions] = {}
        for layer in self._layers:
            for url, table in layer.values.get("storage_options", {}).items():
                tables.setdefault((url, layer.own), StorageOptions.of(url, table, layer.own))
        return tuple(tables.values())

    @staticmethod
    def _value(key: str, layers: list[_Layer]) -> Any:
        return next((layer.values[key] for layer in layers if key in layer.values), None)

    def _merged(self, layers: list[_Layer]) -> dict[str, Any]:
        """Return what some of the layers say together."""
        found: dict[str, Any] = {}
        for layer in reversed(layers):
            for values in (self._implied if layer is self._naming else {}, layer.values):
                if "hashserver" in values:
                    found |= {"store": (values["hashserver"],), "database": values["hashserver"]}
                found |= values
        return found

    def _of_daskserver(self) -> dict[str, Any]:
        """Return what else is named with a daskserver: its hashserver, directly where it is on this host."""
        naming = self._naming
        if naming is None or is_address(naming.values["daskserver"]):
            return {}
        from .connection import read_when_started

        path = naming.values["daskserver"]
        self._facts = facts = read_when_started(path, self._tell)
        if not naming.own:
            self._refuse_foreign_secrets(path, facts)
        direct = facts.is_here and os.path.isabs(facts.store) and os.access(facts.store, os.R_OK | os.X_OK)
        return {
            "hashserver": facts.hashserver,
            "store": (facts.store, facts.hashserver) if direct else (facts.hashserver,),
            "database": facts.hashserver,
        }

    def _refuse_foreign_secrets(self, path: str, facts: ConnectionFile) -> None:
        """Refuse a connection file of a project that has secrets of others sent to its servers."""
        if origins.lies_in(path, os.path.join(self._own_cache, "daskserver")):
            return  # our own commands wrote it
        folder = os.path.dirname(os.path.realpath(path))
        secrets = facts.token_file, facts.hashserver_token_file
        if not all(origins.lies_in(file, folder) for file in secrets):
            raise UsageError(
                f"{path} is named by a project, and the tokens that it names do not lie beside it: name it"
                " yourself, by --daskserver, SEAMLESS_DASKSERVER or a profile of your own configuration"
            )

    # ------------------------------------------------------------------ secrets

    def _bind(self) -> None:
        """Bind credentials to servers that the user named beside them or further down, and to no other."""
        for position, layer in enumerate(self._layers):
            for url, table in layer.credentials.items():
                self._bindings.bind([origins.origin(url)], table.get("token_file"), table.get("ca_file"))
            token_file, ca_file = layer.values.get("token_file"), layer.values.get("ca_file")
            if layer.own and (token_file or ca_file):
                self._bind_named(position, token_file, ca_file)
            if layer is self._naming and self._implied:
                facts = self._facts
                origin = origins.origin(facts.hashserver)
                self._bindings.bind([origin], facts.hashserver_token_file, facts.hashserver_ca_file)
        theirs = [layer for layer in self._layers if not layer.own]
        named = map(origins.origin, origins.servers(self._merged(theirs)))
        self._bindings.vouch(named, self._value("ca_file", theirs))

    def _bind_named(self, position: int, token_file: str | None, ca_file: str | None) -> None:
        """Bind what one layer names: the token to the server that it is meant for, the authority to all."""
        found = self._merged([layer for layer in self._layers[position:] if layer.own])
        named = list(map(origins.origin, origins.servers(found)))
        if named:
            self._bindings.bind(named[:1], token_file, None)
            self._bindings.bind(named, None, ca_file)
        elif is_address(found.get("daskserver") or ""):
            self._bindings.bind([found["daskserver"]], token_file, ca_file)
        else:
            self._unbound = self._unbound[0] or token_file, self._unbound[1] or ca_file

    def _running_server(self, cache: str) -> ReadyFile | None:
        """Return what the server of the cache says of itself, once its token is bound to it."""
        ready = _running_server(cache)
        origin = [origins.origin(ready.url)] if ready else []
        token_file = ready.token_file if ready else None
        if cache == self._own_cache:
            self._bindings.bind(origin, *self._unbound)
        elif token_file and not origins.lies_in(token_file, cache):
            token_file = None  # a project has named the cache, which names a file of anybody's
        self._bindings.bind(origin, token_file, None)
        return ready


def _default_stores(cache: str, server: str | None, directory: str | None) -> tuple[str, ...]:
    """Return the places of buffers when none is named: what can be reached directly goes first."""
    if server is None:
        return (os.path.join(cache, "buffers"),)
    return (directory, server) if directory else (server,)


def _default_database(cache: str) -> str:
    return os.path.join(cache, "seamless.db")


def _running_server(cache: str) -> ReadyFile | None:
    """Return what the server of this cache says of itself, unless it died without a word.

    Raises
    ------
    UsageError
        Others may read it, so that it is none that we have written: it came with what was cloned or copied.
    """
    path = os.path.join(cache, READY_FILE)
    try:
        fd, state = open_regular(path)
        with os.fdopen(fd, "rb") as file:
            data = file.read()
    except OSError:
        return None
    from hashserver.ready_file import parse_ready

    ready = parse_ready(data)
    if ready is None or (ready.is_here and not is_hashserver(ready.pid)):
        return None
    if state.st_mode & 0o077:  # ours has mode 0600
        raise UsageError(
            f"others may read {path}: none of your servers wrote it; delete it, unless it came from you"
        )
    return ready


def is_hashserver(pid: int) -> bool:
    """Say whether a process of this account is a hashserver; numbers are used again after a death."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid() and any(b"hashserver" in word for word in words)
    except OSError:
        return False
