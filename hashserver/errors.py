"""What can go wrong with buffers and results, and who is to blame.

::

    HashserverError
    ├── InvalidRequest             the caller's input
    │   ├── InvalidChecksum        not 64 lower-case hex digits
    │   ├── InvalidIndex           not a directory index, or one whose paths are unsafe
    │   ├── InvalidPack            a pack that is cut short or malformed
    │   ├── SidecarError           a sidecar that is empty, not hex, or at odds with another
    │   ├── TreeError              a directory that has no identity
    │   │   └── MemberPending      as yet: jobs are making it, or some of its members
    │   ├── LinkRefused            --hardlink is not possible for this file
    │   └── TooLarge               over the server's size limit
    ├── BufferFailure                one buffer
    │   ├── BufferMissing          no place has it
    │   ├── BufferCorrupt          its bytes are not those of its checksum
    │   ├── OriginalChanged        a file stored by reference is no longer what it was
    │   └── FileChanged            a file changed while it was read
    ├── DatabaseError              seamless.db is corrupt, newer, or not ours
    │   └── Irreproducible         one transformation, two results
    └── ServiceUnavailable         the system: retried elsewhere or later
        ├── NoSpace                no room on the device
        ├── ReadOnly               a store or database that may not be written
        └── AuthenticationFailed   missing or wrong token
"""

from __future__ import annotations

from typing import Any

from .printable import one_line


class HashserverError(Exception):
    """Root of all errors of this package; ``str(error)`` is one line that says what to do.

    Nothing that others named or wrote moves a cursor in it: Python shows what nobody catches as it is.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class InvalidRequest(HashserverError):
    """The caller's input is at fault."""


class InvalidChecksum(InvalidRequest):
    """Text that is not 64 lower-case hex digits."""

    def __init__(self, text: object) -> None:
        shown = repr(text)
        super().__init__(f"not a checksum (64 lower-case hex digits): {shown[:80]}")


class InvalidIndex(InvalidRequest):
    """Bytes that are not a directory index, or an index whose paths are unsafe."""


class InvalidPack(InvalidRequest):
    """A pack that is cut short or malformed."""


class SidecarError(InvalidRequest):
    """A sidecar that is empty, not hex, or at odds with another one or with its file."""


class TreeError(InvalidRequest):
    """A directory that has no identity: broken links, special files, undecodable names."""


class MemberPending(TreeError):
    """A file or directory has no identity yet, because jobs are still making what lies at `paths`."""

    def __init__(self, paths: list[str]) -> None:
        path = paths[0]
        super().__init__(f"{path} is still being made by a job: seamless-download {path} waits for it")
        self.paths = paths

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.paths,)


class LinkRefused(InvalidRequest):
    """A file cannot be hard-linked into the store; the message says why and what else there is."""


class TooLarge(InvalidRequest):
    """A buffer over the size limit of a server."""


class BufferFailure(HashserverError):
    """One buffer cannot be had or kept.

    Parameters
    ----------
    checksum : str
        The buffer's checksum.
    message : str
        One line that says what to do.
    """

    def __init__(self, checksum: str, message: str) -> None:
        super().__init__(message)
        self.checksum = checksum

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.checksum, str(self))


class BufferMissing(BufferFailure):
    """No place has the buffer; `missing` names all of them where many were asked for.

    `corrupt` says that there was something, which is put out of the way.
    """

    corrupt = False

    def __init__(self, checksum: str, message: str = "") -> None:
        super().__init__(checksum, message or f"buffer {checksum} is in none of the stores")
        self.missing: list[str] = [checksum]


class BufferCorrupt(BufferFailure):
    """Bytes that are not those of their checksum."""


class OriginalChanged(BufferFailure):
    """A file that was stored by reference has changed since."""


class FileChanged(BufferFailure):
    """A file changed while it was read, or is not what it was said to be."""


class DatabaseError(HashserverError):
    """A result database that is corrupt, of a newer version, or not ours."""


class Irreproducible(DatabaseError):
    """Another result is already known for a transformation.

    Parameters
    ----------
    transformation, known, found : str
        Checksums of the transformation and of both results.
    """

    def __init__(self, transformation: str, known: str, found: str) -> None:
        super().__init__(
            f"transformation {transformation} gave {found}, but {known} is on record:"
            " the computation is not reproducible (the new result is kept beside it)"
        )
        self.transformation, self.known, self.found = transformation, known, found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.transformation, self.known, self.found)


class ServiceUnavailable(HashserverError):
    """The system is at fault; only this kind is ever retried."""


class NoSpace(ServiceUnavailable):
    """No room on the device."""


class ReadOnly(ServiceUnavailable):
    """A store or a database that may not be written."""


class AuthenticationFailed(ServiceUnavailable):
    """A missing or wrong token."""
