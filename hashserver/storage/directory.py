"""Buffers in a directory of this host, or of a network file system.

::

    <root>/<first two hex digits>/<checksum>    a buffer, mode 0444 (or a link to a user's file)
    <root>/<two digits>/<checksum>.gz, .zst     one of Seamless 1.x, see `compressed`
    <root>/.references, .links                  records of users' files, see `references`
    <root>/.quarantine/<checksum>               what was found to be corrupt
    <root>/.tmp/                                what is being written, where files need a name for that
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hashserver.atomic import NewFile, write_all, write_atomic
from hashserver.checksum import Checksum, hash_bytes, hash_descriptor
from hashserver.durability import sync_directories, sync_file
from hashserver.errors import (
    BufferMissing,
    OriginalChanged,
    ServiceUnavailable,
)
from hashserver.regular_file import READ_FLAGS, open_regular
from hashserver.storage.files import (
    DescriptorParts,
    Download,
    EarlyWriting,
    clone,
    copy_hashed,
    read_all,
    remove_abandoned,
    write_error,
)
from hashserver.storage.references import References, link_refused, state_with
from hashserver.storage.store import SMALL, Store, Writer, changed, file_changed, local_error
from hashserver.workspace.index import is_executable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from hashserver.storage.store import Bytes, Path

    _Put = Callable[[Checksum, Bytes], None]

PREFIX_MARKER = ".HASHSERVER_PREFIX"
"""An empty file by which Seamless 1.x knows that buffers lie in directories by their first two digits."""

EMPTY = hash_bytes(b"")
_READ = os.O_RDONLY | os.O_CLOEXEC
_ENTRY = READ_FLAGS | os.O_NOFOLLOW
_NO_BUFFER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV})
"""There is nothing under the name of a buffer, or what is no buffer of ours: a link, a socket, a device."""


class LocalStore(Store):
    """Buffers in a directory; made with the first of them.

    Parameters
    ----------
    root
        The directory, shared by any number of processes and hosts. It may be one of Seamless 1.x.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.path.abspath(os.fspath(root))
        self.url = f"file://{self.root}"
        self._references = References(self.root, ".references")
        self._links = References(self.root, ".links")
        self._numbers = 0
        self._shared: bool | None = None
        self.unpacks = True
        """Whether a buffer that is here compressed is unpacked to its place when it is first read."""
        self._unsettled: dict[Checksum, bool] = {}
        """Buffers whose names may not survive a power cut, and whether they have them by now."""
        self._known_folders: set[str] = set()

    @property
    def writable(self) -> bool:
        """Whether buffers can be added."""
        place = self.root
        while not os.path.exists(place) and place != "/":
            place = os.path.dirname(place)
        return os.access(place, os.W_OK | os.X_OK)

    # ------------------------------------------------------------------ reading

    def has(self, checksums: Sequence[Checksum]) -> list[int]:
        """Return the length of each buffer, -1 for what cannot be read."""
        referred = self._references.any()
        lengths = [self._length(checksum, referred) for checksum in checksums]
        if self._unsettled:
            self._settle_found(checksums, lengths)
        if -1 in lengths:
            from hashserver.storage import compressed  # not on the way of what is here

            compressed.add_lengths(self, checksums, lengths)
        return lengths

    def _settle_found(self, checksums: Sequence[Checksum], lengths: Sequence[int]) -> None:
        """Have what was found survive a power cut, as a yes must: its writer may not have come to that."""
        found = zip(checksums, lengths, strict=True)
        named = [checksum for checksum, length in found if length >= 0 and checksum in self._unsettled]
        try:
            self._settle(map(self._folder, named))
        except OSError as error:
            raise write_error(error, self.url) from error

    def _length(self, checksum: Checksum, referred: bool) -> int:
        try:
            state = os.lstat(self._file(checksum))
        except OSError:
            return self._length_referred(checksum) if referred else -1
        if not stat.S_ISREG(state.st_mode):
            return self._length_referred(checksum) if referred else -1
        try:
            self._check_buffer(checksum, state)
        except (BufferMissing, OriginalChanged):
            return -1
        return state.st_size

    def _length_referred(self, checksum: Checksum) -> int:
        record = self._references.get(checksum)
        if record is None:
            return -1
        try:
            state = os.stat(record.path)
        except OSError:
            return -1
        return state.st_size if record.holds(state) and os.access(record.path, os.R_OK) else -1

    def get(self, checksum: Checksum) -> bytes:
        """Return a buffer whole, verified."""
        fd, state = self._open(checksum)
        try:
            with self._reading(checksum):
                data = read_all(fd, state.st_size)
        finally:
            os.close(fd)
        self._check(checksum, hash_bytes(data))
        return data

    def get_file(self, checksum: Checksum, path: Path, executable: bool | None = None) -> None:
        """Write a buffer to a file, verified; the file is replaced at once or not at all."""
        source, state = self._open(checksum)
        try:
            with Download(path) as target:
                if state.st_size < SMALL:
                    with self._reading(checksum):
                        data = read_all(source, state.st_size)
                    write_all(target.fd, data)
                    found = hash_bytes(data)
                else:
                    found, _ = copy_hashed(source, target.fd, self._file(checksum))
                self._check(checksum, found)
                if executable is None:
                    executable = is_executable(os.pread(target.fd, 4, 0))
                target.finish(executable)
        except OSError as error:
            if error.filename == self._file(checksum):
                raise _unreadable(error, checksum, self.url) from error
            raise local_error(error, path) from error
        finally:
            os.close(source)

    def read(self, checksum: Checksum, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Return the bytes in parts, not verified."""
        fd, _ = self._open(checksum)
        return DescriptorParts(fd, start, length, lambda error: _unreadable(error, checksum, self.url))

    def open(self, checksum: Checksum) -> BinaryIO:
        """Return an open file with the bytes, not verified."""
        return os.fdopen(self._open(checksum)[0], "rb")

    def local_path(self, checksum: Checksum) -> str | None:
        """Return the path of the bytes, None when they are not here."""
        try:
            os.close(self._open(checksum)[0])
        except BufferMissing:
            return None
        path = self._file(checksum)
        if _is_regular(path):
            return path
        record = self._references.get(checksum)
        return record.path if record else None

    def in_place(self, checksum: Checksum) -> bool:
        """Say whether a buffer is a user's file that was recorded where it is."""
        return not os.path.lexists(self._file(checksum)) and self._references.get(checksum) is not None

    def descriptor(self, checksum: Checksum) -> tuple[int, os.stat_result]:
        """Return an open descriptor of the bytes, not verified, and the state of the file.

        Raises
        ------
        BufferMissing, OriginalChanged
            When there is none.
        """
        return self._open(checksum)

    @contextmanager
    def _reading(self, checksum: Checksum) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _unreadable(error, checksum, self.url) from error

    def _folder(self, checksum: Checksum) -> str:
        return f"{self.root}/{checksum[:2]}"

    def _file(self, checksum: Checksum) -> str:
        return f"{self.root}/{checksum[:2]}/{checksum}"

    def _open(self, checksum: Checksum) -> tuple[int, os.stat_result]:
        try:
            fd = os.open(f"{self.root}/{checksum[:2]}/{checksum}", _ENTRY)
        except OSError as error:
            if error.errno not in _NO_BUFFER:
                raise _unreadable(error, checksum, self.url) from error
            return self._open_referred(checksum)
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            os.close(fd)
            return self._open_referred(checksum)
        try:
            self._check_buffer(checksum, state)
        except BaseException:
            os.close(fd)
            raise
        return fd, state

    def _check_buffer(self, checksum: Checksum, state: os.stat_result) -> None:
        if state.st_size == 0 and checksum != EMPTY:
            # what a crash of the host makes of a file that had its name but not yet its blocks
            raise BufferMissing(checksum)
        if state.st_nlink == 1 and not state.st_mode & 0o222:
            return  # our own buffers have one name and nobody may write to them: no record to look for
        if (record := self._links.get(checksum)) and not record.holds(state):
            raise record.changed(checksum)

    def _open_referred(self, checksum: Checksum) -> tuple[int, os.stat_result]:
        record = self._references.get(checksum)
        if record is None:
            from hashserver.storage import compressed

            if (path := compressed.find(self.root, checksum)) is not None:
                return compressed.unpacked(self, checksum, path)
            raise BufferMissing(checksum, f"buffer {checksum} is not in {self.url}")
        try:
            fd, state = open_regular(record.path)
        except OSError as error:
            raise record.changed(checksum) from error
        if not record.holds(state):
            os.close(fd)
            raise record.changed(checksum)
        return fd, state

    def is_packed(self, checksum: Checksum) -> bool:
        """Say whether a buffer is here compressed only, so that opening it takes time."""
        from hashserver.storage import compressed

        return not os.path.lexists(self._file(checksum)) and compressed.find(self.root, checksum) is not None

    # ------------------------------------------------------------------ writing

    def put(self, data: Bytes) -> Checksum:
        """Store `data` and return its checksum."""
        checksum = hash_bytes(data)
        self._put(checksum, data)
        return checksum

    def _put(self, checksum: Checksum, data: Bytes) -> None:
        try:
            if not self._stored(checksum, len(data)):
                with self._new_file(self._folder(checksum)) as file:
                    write_all(file.fd, data)
                    self._keep(file, checksum, len(data))
            else:
                self._settle([self._folder(checksum)])  # its name may be as new, and another writer's
        except OSError as error:
            raise write_error(error, self.url) from error

    def put_verified(self, buffers: Iterable[tuple[Checksum, bytes]]) -> None:
        """Store many small buffers whose checksums have been found to be right."""
        with self._batch() as add:
            for checksum, data in buffers:
                add(checksum, data)

    def put_file(self, path: Path, expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Store a file, reading it once; hashing and writing overlap."""
        return self._put_file(path, expected, self._put)

    def put_files(self, files: Iterable[tuple[Path, Checksum | None]]) -> list[Checksum]:
        """Store many files; return their checksums."""
        with self._batch() as add:
            return [self._put_file(path, expected, add)[0] for path, expected in files]

    def _put_file(self, path: Path, expected: Checksum | None, put_small: _Put) -> tuple[Checksum, int]:
        source = os.open(path, _READ)
        try:
            before = os.fstat(source)
            if stat.S_ISDIR(before.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
            if before.st_size >= SMALL or not stat.S_ISREG(before.st_mode):
                return self._put_large(source, before, path, expected)
            checksum, data = _read_small(source, before, path, expected)
        finally:
            os.close(source)
        put_small(checksum, data)
        return checksum, len(data)

    def _put_large(
        self, source: int, before: os.stat_result, path: Path, expected: Checksum | None
    ) -> tuple[Checksum, int]:
        try:
            with self._new_file() as file:
                checksum, size = copy_hashed(source, file.fd, path, durable=True)
                regular = stat.S_ISREG(before.st_mode)  # the clock of a pipe means nothing
                if (regular and changed(before, os.fstat(source))) or checksum != (expected or checksum):
                    raise file_changed(path, expected)
                self._keep(file, checksum, size)
        except OSError as error:
            if error.filename == path:
                raise
            raise write_error(error, self.url) from error
        return checksum, size

    def writer(self) -> Writer:
        """Return a writer of one new buffer."""
        return _LocalWriter(self)

    def delete(self, checksum: Checksum) -> None:
        """Forget a buffer; a user's file stays as it is."""
        try:
            os.unlink(self._file(checksum))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise write_error(error, self.url) from error
        from hashserver.storage import compressed

        compressed.remove(self.root, checksum)
        self._links.remove(checksum)
        self._references.remove(checksum)

    def verify(self, checksum: Checksum) -> bool:
        """Read a buffer back, and have it survive a power cut; a corrupt one is put into quarantine."""
        try:
            fd, state = self._open(checksum)
        except OriginalChanged:
            self._quarantine(checksum, None)
            return False
        except BufferMissing as error:
            if error.corrupt:
                return False
            raise
        try:
            with self._reading(checksum):
                found, _ = hash_descriptor(fd)
            if found == checksum:
                self._assure(fd, checksum)
        finally:
            os.close(fd)
        if found != checksum:
            self._quarantine(checksum, state)
        return found == checksum

    def _assure(self, fd: int, checksum: Checksum) -> None:
        """Sync what another program may have written: the verdict is a licence to delete the original."""
        try:
            os.fsync(fd)
            self._settle([self._folder(checksum)])
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EROFS):  # a user's file; nothing to be written
                raise write_error(error, self.url) from error

    def _quarantine(self, checksum: Checksum, state: os.stat_result | None) -> None:
        path = self._file(checksum)
        try:
            linked = self._links.get(checksum) is not None
            if linked or not os.path.exists(path):
                # a user's file: there is nothing of ours to keep for inspection
                self.delete(checksum)
            elif state is None or os.path.samestat(os.stat(path), state):  # else it was mended meanwhile
                from hashserver.storage.modes import make_below

                make_below(self.root, f"{self.root}/.quarantine")
                os.replace(path, f"{self.root}/.quarantine/{checksum}")
        except FileNotFoundError:
            pass  # another process was faster
        except OSError as error:
            raise write_error(error, self.url) from error

    def clean(self) -> int:
        """Remove what dead writers left behind; return how many files that were."""
        from hashserver.storage.modes import tidy

        tidy(self.root)
        return remove_abandoned(f"{self.root}/.tmp")

    # ------------------------------------------------------------------ users' files

    def reference(self, path: Path, checksum: Checksum, state: os.stat_result | None = None) -> None:
        """Record a file where it is."""
        original = os.path.realpath(path)
        state = state_with(original, checksum, state)
        try:
            sync_file(original)
            self._make_directory(self.root)
            self._references.put(checksum, original, state)
        except OSError as error:
            raise write_error(error, self.url) from error

    def link_file(self, path: Path, checksum: Checksum, state: os.stat_result | None = None) -> None:
        """Hard-link a file into the store, or share its blocks where links are not permitted."""
        original = os.path.realpath(path)
        state = state_with(original, checksum, state)
        if self._stored(checksum, state.st_size):
            return
        try:
            sync_file(original)
            self._make_directory(self._folder(checksum))
            # the record first: nobody shall open a link and find no record to compare it with
            self._links.put(checksum, original, state)
        except OSError as error:
            raise write_error(error, self.url) from error
        try:
            os.link(original, self._file(checksum))
        except FileExistsError:
            pass  # another process was faster
        except OSError as error:
            self._links.remove(checksum)
            if not self._cloned(original, checksum, state):
                raise link_refused(error, path, self.url) from error
        try:
            self._settle([self._folder(checksum)])
        except OSError as error:
            raise write_error(error, self.url) from error

    def _cloned(self, original: str, checksum: Checksum, state: os.stat_result) -> bool:
        source = os.open(original, _READ)
        try:
            with self._new_file() as file:
                if not clone(source, file.fd):
                    return False
                if changed(state, os.fstat(source)):
                    raise file_changed(original, checksum)
                self._keep(file, checksum, state.st_size)
        except OSError as error:
            raise write_error(error, self.url) from error
        finally:
            os.close(source)
        return True

    # ------------------------------------------------------------------ files of the store

    def _stored(self, checksum: Checksum, size: int) -> bool:
        """Say whether the buffer itself is here; one of another length is damaged."""
        try:
            state = os.lstat(self._file(checksum))
            self._check_buffer(checksum, state)
        except (OSError, BufferMissing, OriginalChanged):
            return False
        return state.st_size == size and stat.S_ISREG(state.st_mode)

    def _new_file(self, directory: str | None = None) -> NewFile:
        """Return a new file on the disk of `directory`, by default the root: near where it will be named."""
        directory = directory or self.root
        if not self._numbers:
            self.clean()  # where no server does it, the next process that writes
        self._numbers += 1
        temporary = f"{self.root}/.tmp/{os.uname().nodename}-{os.getpid()}-{id(self):x}-{self._numbers}"
        try:
            return self._readable(NewFile(directory, temporary, 0o444))
        except FileNotFoundError:
            self._make_directory(directory)
            self._make_directory(f"{self.root}/.tmp")
            return self._readable(NewFile(directory, temporary, 0o444))

    def _readable(self, file: NewFile) -> NewFile:
        """Return `file`, for all to read who may enter the store, whatever the umask."""
        if self._shared is None:
            from hashserver.storage.modes import is_shared

            self._shared = is_shared(self.root)
        if self._shared:
            os.fchmod(file.fd, 0o444)
        return file

    @contextmanager
    def _batch(self) -> Iterator[_Put]:
        """Offer a function that adds a small buffer; at the end all of them are durable."""
        folders: set[str] = set()

        def add(checksum: Checksum, data: Bytes) -> None:
            folder = self._folder(checksum)
            folders.add(folder)
            try:
                if not self._stored(checksum, len(data)):
                    batch.add(lambda: self._new_file(folder), checksum, data)
            except OSError as error:
                raise write_error(error, self.url) from error

        from hashserver.storage.batch import Batch

        with Batch(self._publish) as batch:
            try:
                yield add
            finally:  # what came before a failure is kept
                try:
                    batch.finish()
                    self._settle(folders)
                except OSError as error:
                    raise write_error(error, self.url) from error

    def _keep(self, file: NewFile, checksum: Checksum, size: int) -> None:
        """Make a file that has been written a buffer, to stay."""
        file.sync()
        self._publish(file, checksum, size)
        self._settle([self._folder(checksum)])

    def _settle(self, folders: Iterable[str]) -> None:
        """Have all names in some directories survive a power cut.

        A directory that is new to us may be as new as the name, whoever made it.
        """
        wanted = set(folders)
        if not wanted:
            return
        # one that gets its name while we sync is its writer's to settle
        unsettled = self._unsettled.copy()
        named = [each for each, done in unsettled.items() if done and self._folder(each) in wanted]
        strange = wanted - self._known_folders
        above = {self.root} if strange else set()
        if not self._known_folders:
            above.add(os.path.dirname(self.root))
        sync_directories(wanted | above)
        self._known_folders |= strange
        for checksum in named:
            self._unsettled.pop(checksum, None)

    def _publish(self, file: NewFile, checksum: Checksum, size: int) -> None:
        """Give a file that is on the disk its name."""
        self._unsettled[checksum] = False  # before: whoever sees the name finds it here
        try:
            self._name(file, checksum, size)
        finally:
            self._unsettled[checksum] = True

    def _name(self, file: NewFile, checksum: Checksum, size: int) -> None:
        path = self._file(checksum)
        try:
            named = file.publish(path, replace=False)
        except FileNotFoundError:
            self._make_directory(os.path.dirname(path))
            named = file.publish(path, replace=False)
        if not named and not self._stored(checksum, size):
            # the one in its place is damaged, or a link to a file that has changed
            self._make_directory(f"{self.root}/.tmp")
            file.publish(path, replace=True)
            self._links.remove(checksum)

    def _make_directory(self, path: str) -> None:
        from hashserver.storage.modes import is_shared, make_below, make_root  # only for those who write

        make_root(self.root)
        if not os.path.lexists(f"{self.root}/{PREFIX_MARKER}"):
            write_atomic(f"{self.root}/{PREFIX_MARKER}", b"", 0o644 if is_shared(self.root) else 0o600)
        if path != self.root:
            make_below(self.root, path)


class _LocalWriter(Writer):
    def __init__(self, store: LocalStore) -> None:
        super().__init__()
        self._store = store
        try:
            self._file = store._new_file()
        except OSError as error:
            raise write_error(error, store.url) from error
        self._writing = EarlyWriting(self._file.fd)

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._file.fd, data)
            self._writing.wrote(len(data))
        except OSError as error:
            raise write_error(error, self._store.url) from error

    def _commit(self, checksum: Checksum) -> None:
        try:
            self._store._keep(self._file, checksum, self.size)
        except OSError as error:
            raise write_error(error, self._store.url) from error

    def _close(self) -> None:
        self._file.close()


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _read_small(
    source: int, before: os.stat_result, path: Path, expected: Checksum | None
) -> tuple[Checksum, bytes]:
    try:
        data = read_all(source, before.st_size)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    checksum = hash_bytes(data)
    if len(data) != before.st_size or (expected is not None and checksum != expected):
        raise file_changed(path, expected)
    return checksum, data


def _unreadable(error: OSError, checksum: Checksum, url: str) -> ServiceUnavailable:
    return ServiceUnavailable(f"buffer {checksum} in {url} cannot be read: {error.strerror}")
