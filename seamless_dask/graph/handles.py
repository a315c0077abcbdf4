"""What a computation hands over, and what travels between tasks: the name of a value, and a way to its bytes.

A handle is small: format and checksum are all that is pickled. The bytes are fetched when somebody asks for
them, in the thread of whoever asks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple
from weakref import ref

from hashserver.checksum import Checksum

from ..config_cache import load_cached
from ..errors import SeamlessError, UsageError
from ..model.transformation import Value
from .current_worker import equipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import ReferenceType

    from ..config import Config
    from ..context import Context
    from .local_inputs import LocalInput

    Path = str | os.PathLike[str]

_UNKNOWN = "0" * 64
SMALL, MOST_SMALL = 4096, 256
"""Up to how many bytes of an object are kept, verified, for whoever asks again, and of how many objects."""
_small: dict[Checksum, bytes] = {}
_CONSTANT = {str, bytes, int, float, bool, type(None)}
UNSEEN = object()
constants: dict[tuple[str, Checksum], Any] = {}
"""Objects that nobody can change, by format and checksum: as many of those that were loaded last."""
_contexts: list[ReferenceType[Context]] = []


class Handle:
    """A value of which only the name is here.

    Parameters
    ----------
    format : str
        Of the value.
    checksum : str
        Of its bytes.
    """

    __slots__ = ("_checksum", "_context", "_format")

    def __init__(self, format: str, checksum: str) -> None:  # noqa: A002 - the field's word
        self._format = format
        self._checksum = checksum if type(checksum) is Checksum else Checksum(checksum)
        self._context: Context | None = None

    @property
    def format(self) -> str:
        """How the bytes are to be read."""
        return self._format

    @property
    def checksum(self) -> Checksum:
        """Identity of the bytes."""
        return self._checksum

    @property
    def value(self) -> Value:
        """Format and checksum as one."""
        return Value(self.format, self.checksum)

    def __reduce__(self) -> tuple[Any, ...]:
        return of, (self.format, str(self.checksum))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.checksum[:12]}…)"

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        return "seamless", *self.value

    def _with_context(self, read: Callable[[Context], Any]) -> Any:
        """Call `read` with each context that may know the bytes, until one does."""
        from hashserver.errors import BufferMissing, ServiceUnavailable

        failures: list[Exception] = []
        for context in [self._context] if self._context else contexts_of_process():
            try:
                return read(context)
            except (BufferMissing, ServiceUnavailable) as error:
                failures.append(error)
        raise failures[0]

    def _child(self, value: Value) -> Handle:
        child = of(*value)
        child._context = self._context
        return child

    def _bytes(self) -> bytes:
        data: bytes = self._with_context(lambda context: context.store.get(self.checksum))
        return data


class Located(Handle):
    """A value that may stand for a local path whose bytes are not in the store yet.

    Parameters
    ----------
    path : path
        A local file or directory; its sidecar counts as it does for ``seamless-run``, the bytes need not be
        there then. Its checksum is found when it is first needed.
    checksum : str
        Instead of a path.
    """

    __slots__ = ("_source",)
    kind = "file"

    def __init__(self, path: Path | None = None, *, checksum: str | None = None) -> None:
        if (path is None) == (checksum is None):
            raise UsageError(f"{type(self).__name__} takes either a path or a checksum")
        super().__init__(self.kind, _UNKNOWN if checksum is None else checksum)
        self._source: LocalInput | None = None
        if path is not None:
            from .local_inputs import LocalInput

            self._source = LocalInput(os.fspath(path), self.kind)

    @property
    def checksum(self) -> Checksum:
        """Identity of the bytes."""
        if self._source is not None:
            return self._source.identify(contexts_of_process()[0])
        return self._checksum

    @property
    def source(self) -> LocalInput | None:
        """The local path."""
        return self._source

    def __seamless_path__(self) -> tuple[str, str]:
        """Return format and local path, for a function that returns what it has written."""
        if self._source is None:
            raise UsageError(f"a function returns a {self.kind} by its path: {self!r} has none")
        return self.kind, self._source.path

    def __reduce__(self) -> tuple[Any, ...]:
        self._keep()  # whoever unpickles it has another file system
        return super().__reduce__()

    def _with_context(self, read: Callable[[Context], Any]) -> Any:
        from hashserver.errors import BufferMissing

        try:
            return super()._with_context(read)
        except BufferMissing as error:
            if self._source is None:
                raise
            message = (
                f"{self._source.path} is not here, and no store has its bytes ({error.checksum}):"
                " seamless-fingertip makes them again where that is possible, else seamless-upload the file"
            )
            raise BufferMissing(error.checksum, message) from None

    def _keep(self) -> None:
        """See to it that the bytes of a local path are in the store."""
        if self._source is not None:
            self._source.keep(contexts_of_process()[0])


class File(Located):
    """A file; see `Located`."""

    __slots__ = ()

    def read_bytes(self) -> bytes:
        """Return the bytes.

        Raises
        ------
        BufferMissing
            When no store has them: ``seamless-fingertip`` makes them again.
        """
        self._keep()
        return self._bytes()

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the bytes as text."""
        return self.read_bytes().decode(encoding)

    def open(self) -> BinaryIO:
        """Return a stream of the bytes, to be closed by whoever asked."""
        self._keep()
        stream: BinaryIO = self._with_context(lambda context: context.store.open(self.checksum))
        return stream

    def save(self, path: Path) -> None:
        """Write a file, verified; it is replaced at once or not at all."""
        self._keep()
        target = os.fspath(path)
        os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
        self._with_context(lambda context: context.store.get_file(self.checksum, target))


class Directory(Located):
    """A directory; see `Located`."""

    __slots__ = ()
    kind = "directory"

    def index(self) -> dict[str, File]:
        """Return the files by their relative paths."""
        from hashserver.workspace.index import parse_index

        self._keep()
        found: dict[str, File] = {}
        for name, checksum in parse_index(self._bytes()).items():
            file = self._child(Value("file", checksum))
            assert isinstance(file, File)
            found[name] = file
        return found

    def __getitem__(self, path: str) -> File:
        """Return one of the files."""
        return self.index()[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.index())

    def __len__(self) -> int:
        return len(self.index())

    def save(self, path: Path) -> None:
        """Write all files below a directory; what else is there stays.

        Raises
        ------
        UsageError
            A file would get into a git repository that is there: git runs some.
        TreeError
            A link or a file is where a folder is needed.
        """
        from hashserver.workspace.index import safe_join
        from hashserver.workspace.tree import make_folders

        root, files = os.fspath(path), self.index()
        _refuse_repository(root, files)
        make_folders(root, list(files))
        for name, file in files.items():
            file.save(safe_join(root, name))


def _refuse_repository(root: str, files: Mapping[str, File]) -> None:
    """Raise `UsageError` when a file that is not there already would get into a git repository."""
    from hashserver.checksum import hash_file
    from hashserver.workspace.repository import repository_of

    for name, file in files.items():
        if repository_of(f"{os.path.realpath(root)}/{name}"):
            there = os.path.join(root, name)
            if not (os.path.isfile(there) and hash_file(there)[0] == file.checksum):
                raise UsageError(
                    f"{there} would get into the git repository that is there: save the directory elsewhere"
                )


class Object(Handle):
    """A Python object.

    Parameters
    ----------
    format, checksum : str
        Of its bytes.
    key : str or None
        Of the transformation that gave it, for whoever asks for the object and has only this handle.
    """

    __slots__ = ("key",)

    def __init__(self, format: str, checksum: str, key: str | None = None) -> None:  # noqa: A002 - the field's word
        super().__init__(format, checksum)
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        if self.key is None:
            return super().__reduce__()
        return _arrives, (self.format, str(self.checksum), str(self.key))

    def load(self, *, trusted: bool = False, data: bytes | None = None) -> Any:
        """Return the object.

        Parameters
        ----------
        trusted
            Whether its bytes may name what is imported and run.
        data
            Its bytes, verified, where they are at hand.

        Raises
        ------
        UntrustedValue
            When they do, and are not trusted.
        """
        small = _small.get(self._checksum) if data is None else data
        if small is not None:
            return self._of_bytes(small, trusted)
        from ..values.loading import load

        def found(context: Context) -> Any:
            path = context.store.local_path(self.checksum)
            if path is None or os.path.getsize(path) <= SMALL:
                data = context.store.get(self.checksum)
                _remember_small(self.checksum, data)
                return self._of_bytes(data, trusted)
            return load(self.format, path, trusted=trusted)

        return self._with_context(found)

    def _of_bytes(self, data: bytes, trusted: bool) -> Any:
        from ..values.loading import load

        value = load(self._format, bytearray(data), trusted=trusted)
        if len(data) <= SMALL and not trusted and type(value) in _CONSTANT:
            if len(constants) >= MOST_SMALL:
                constants.clear()
            constants[self._format, self._checksum] = value
        return value


def _remember_small(checksum: Checksum, data: bytes) -> None:
    if len(data) <= SMALL:
        if len(_small) >= MOST_SMALL:
            _small.clear()
        _small[checksum] = data


class Results(Handle, Mapping[str, Handle]):
    """Several results of one run, by the names they were declared under; standard output is ``stdout``."""

    __slots__ = ("_parts",)

    def __init__(self, checksum: str) -> None:
        super().__init__("results", checksum)
        self._parts: dict[str, Handle] | None = None

    __hash__ = Handle.__hash__
    __eq__ = Handle.__eq__

    def parts(self) -> dict[str, Handle]:
        """Return all of them."""
        if self._parts is None:
            from ..model.values import parse_results

            found = parse_results(self._bytes())
            named = found.globs | found.paths
            if found.stdout is not None:
                named = {"stdout": found.stdout} | named
            self._parts = {name: self._child(value) for name, value in named.items()}
        return self._parts

    def __getitem__(self, name: str) -> Handle:
        return self.parts()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts())

    def __len__(self) -> int:
        return len(self.parts())


def of(format: str, checksum: str, key: str | None = None) -> Handle:  # noqa: A002 - the field's word
    """Return the handle of a value; `key` is that of the transformation that gave it."""
    if format == "directory":
        return Directory(checksum=checksum)
    if format == "results":
        return Results(checksum)
    if format == "file":
        return File(checksum=checksum)
    return Object(format, checksum, key)


def is_object(format: str) -> bool:  # noqa: A002 - the field's word
    """Whether the handle of a value of this format is an `Object`."""
    return format not in ("directory", "results", "file")


_delivers: Callable[[Object], Any] | None = None


def is_delivered() -> bool:
    """Whether results become objects where they are unpickled in this process."""
    return _delivers is not None


def deliver_by(function: Callable[[Object], Any]) -> None:
    """Have results become objects where they are unpickled in this process: nothing else makes them so."""
    global _delivers
    _delivers = function


def _unpickled(format: str, checksum: str, key: str) -> Any:  # noqa: A002 - the field's word
    """Return the result of a transformation."""
    found = of(format, checksum, key)
    return _delivers(found) if _delivers is not None and isinstance(found, Object) else found


_arrives: Callable[[str, str, str], Any] = _unpickled


def arrive_by(function: Callable[[str, str, str], Any]) -> None:
    """Have results that this process sends be unpickled by another function than `_unpickled`."""
    global _arrives
    _arrives = function


def use(context: Context) -> None:
    """Look for the bytes of handles in this context too, before any that was named earlier."""
    others = [known for known in _contexts if known() not in (None, context)]
    _contexts[:] = [ref(context), *others]


def contexts_of_process() -> list[Context]:
    """Return where the bytes of handles are looked for: at least one place."""
    worker = equipped()
    if worker is not None:
        return [worker.context]
    named = [context for known in _contexts if (context := known()) is not None]
    try:
        return [*named, default_context()]
    except SeamlessError:
        if named:
            return named
        raise


def default_context() -> Context:
    """Return the context of this process's configuration, opened once for each that there has been.

    Where that names neither store nor database the scheduler is asked which this process has a client of.
    In a task of a Dask worker it is the worker's, which alone may have what opens them.
    """
    global _last
    if (worker := equipped()) is not None:
        return worker.context
    config, last = load_cached(), _last
    if last is not None and last.config is config:
        if last.is_placed or "distributed" not in sys.modules:
            return last.context
        from ..protocol.discovery import client_of_process

        if client_of_process() is None:
            return last.context
    from ..context import Context
    from ..protocol.discovery import is_placed, of_client, with_places

    whole = of_client(with_places(config))
    context = _defaults.get(whole)
    if context is None:
        context = _defaults[whole] = Context(whole)
    _last = _Last(config, context, is_placed(config)) if whole is config else None
    return context


def forget_default() -> None:
    """Have `default_context` ask again: a client's scheduler counts from now on."""
    global _last
    _last = None


_defaults: dict[Any, Context] = {}


class _Last(NamedTuple):
    """The configuration that was asked for last, where no scheduler was asked for its places."""

    config: Config
    context: Context
    is_placed: bool
    """Whether it names them, so that none ever is."""


_last: _Last | None = None
