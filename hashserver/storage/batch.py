"""Many new buffers of a directory, which become durable together."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from hashserver.atomic import NewFile, write_all
from hashserver.durability import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hashserver.checksum import Checksum

    Publish = Callable[[NewFile, Checksum, int], None]

_FILES, _BYTES = 256, 32 << 20
"""How much waits to be synced while more is being written."""


class _New(NamedTuple):
    file: NewFile
    checksum: Checksum
    size: int


class Batch:
    """Files that are written first, then synced, then named, some hundreds at a time.

    While some are synced, which is mostly waiting for the disk, the next are written. At the end their
    directories are still to be synced.

    Parameters
    ----------
    publish
        Gives a file that is on the disk its name.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._waiting: list[_New] = []
        self._size = 0
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def add(
        self, make: Callable[[], NewFile], checksum: Checksum, data: bytes | bytearray | memoryview
    ) -> None:
        """Write a new file, which `make` makes.

        Raises
        ------
        OSError
            It, or one of those before it, cannot be written.
        """
        try:
            file = make()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not (self._waiting or self._thread):
                raise
            self.flush()  # too many files are open, and they are ours
            self._join()
            file = make()
        self._waiting.append(_New(file, checksum, len(data)))
        self._size += len(data)
        write_all(file.fd, data)
        if len(self._waiting) >= _FILES or self._size >= _BYTES:
            self.flush()

    def flush(self) -> None:
        """Begin to sync and name what has been written; first wait until that is done for what was before."""
        self._join()
        files, self._waiting, self._size = self._waiting, [], 0
        self._thread = threading.Thread(target=self._settle, args=(files,))
        self._thread.start()

    def finish(self) -> None:
        """See to it that all of them are synced and have their names."""
        self._join()
        files, self._waiting = self._waiting, []
        self._settle(files)
        self._join()

    def _join(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _settle(self, files: list[_New]) -> None:
        try:
            side_by_side(os.fsync, [new.file.fd for new in files])
            for new in files:
                self._publish(*new)
        except BaseException as error:
            self._error = error
        finally:
            for new in files:
                new.file.close()

    def close(self) -> None:
        """Give up what has no name yet."""
        if self._thread is not None:
            self._thread.join()
        for new in self._waiting:
            new.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
