"""From what a person types, a path, a checksum or a sidecar, to the checksum whose history is asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.errors import InvalidChecksum
from hashserver.namedtuple import NamedTuple
from hashserver.workspace.sidecar import CHECKSUM, FUTURE, read_checksum, read_future

from ..data.identify import identify_local, identify_sidecar, no_such_path

if TYPE_CHECKING:
    from seamless_dask.context import Context

    from ..console import Console


class Subject(NamedTuple):
    """What a history is asked of.

    Attributes
    ----------
    name : str
        As it was typed.
    checksum : Checksum
        What it is: a buffer, or a transformation.
    is_job : bool
        A job is to make it: the checksum is its key.
    """

    name: str
    checksum: Checksum
    is_job: bool = False


def subject_of(context: Context, name: str, console: Console) -> Subject:
    """Return what a name stands for.

    Raises
    ------
    CommandError
        Nothing is there.
    """
    try:
        return Subject(name, Checksum(name.strip()))
    except InvalidChecksum:
        pass
    if name.endswith(FUTURE) and (future := read_future(name.removesuffix(FUTURE).rstrip("/") or ".")):
        return Subject(name, future.key, True)
    if name.endswith(CHECKSUM) and os.path.lexists(name):
        return Subject(name, read_checksum(name))
    if future := read_future(name):
        return Subject(name, future.key, True)
    here, said = identify_local(name, context, console), identify_sidecar(name)
    if said is not None:
        if here is not None and here.checksum != said.checksum:
            console.warn(f"{name} has changed since its sidecar was written: this is what its sidecar names")
        return Subject(name, said.checksum)
    if here is None:
        raise no_such_path(name)
    return Subject(name, here.checksum)
