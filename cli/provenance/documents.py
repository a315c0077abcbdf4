"""What transformations compute, read from the store as far as it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.errors import HashserverError
from hashserver.namedtuple import NamedTuple
from hashserver.storage.store import get_present
from hashserver.workspace.index import parse_index
from seamless_dask.errors import InvalidTransformation
from seamless_dask.model.transformation import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hashserver.checksum import Checksum
    from hashserver.storage.store import Store
    from seamless_dask.model.transformation import Description

_LONGEST = 16 << 20


class Document(NamedTuple):
    """A transformation, and the text of its code if that is there."""

    description: Description
    code: str | None


def present(store: Store, checksums: Iterable[Checksum]) -> dict[Checksum, bytes]:
    """Return those of some buffers that are there and of a length to be looked at."""
    return get_present(store, checksums, _LONGEST)


def index_in(store: Store, checksum: Checksum) -> dict[str, Checksum] | None:
    """Return the files of a directory; None where its index is gone, or is none."""
    data = present(store, [checksum]).get(checksum)
    try:
        return None if data is None else parse_index(data)
    except HashserverError:
        return None


def documents(store: Store, tfs: Iterable[Checksum]) -> dict[Checksum, Document]:
    """Return those of some transformations whose documents are there."""
    found: dict[Checksum, Description] = {}
    for tf, data in present(store, tfs).items():
        try:
            found[tf] = parse(data)
        except InvalidTransformation:
            continue  # a buffer of another kind
    codes = present(store, [description.code for description in found.values()])
    return {tf: Document(known, _text(codes.get(known.code))) for tf, known in found.items()}


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")
