"""What fsspec's asynchronous file systems (S3 and its kin) are asked for many at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fsspec.asyn import _run_coros_in_chunks, sync

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_AT_ONCE = 64
_DAY = 86400


def lengths(fs: Any, paths: Sequence[str]) -> list[int]:
    """Return the length of each file, -1 for those that are not there."""
    ask = _head if hasattr(fs, "_call_s3") else _info
    return [_length_of(answer) for answer in sync(fs.loop, _gather, ask, fs, paths)]


async def _gather(ask: Any, fs: Any, paths: Sequence[str]) -> list[Any]:
    answers: list[Any] = await _run_coros_in_chunks(
        [ask(fs, path) for path in paths], batch_size=_AT_ONCE, return_exceptions=True
    )
    return answers


async def _head(fs: Any, path: str) -> int:
    # `info` would list a folder of that name, for each buffer that is not there
    bucket, key, _ = fs.split_path(path)
    return int((await fs._call_s3("head_object", Bucket=bucket, Key=key))["ContentLength"])


async def _info(fs: Any, path: str) -> int:
    return int((await fs._info(path))["size"])


def _length_of(answer: Any) -> int:
    if isinstance(answer, FileNotFoundError):
        return -1
    if isinstance(answer, BaseException):
        raise answer
    return int(answer)


def abort_uploads(fs: Any, root: str) -> int:
    """Give up uploads in parts that nobody has finished for a day: S3 keeps (and bills) their parts."""
    bucket, prefix, _ = fs.split_path(root)
    answer = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
    old = [u for u in answer.get("Uploads", []) if time.time() - u["Initiated"].timestamp() > _DAY]
    for upload in old:
        fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return len(old)
