"""Job scripts that bring a worker its credentials: the node need not share a directory with the daskserver.

A batch system hands the script itself to the node, readable by its owner only. It unpacks the files to a
directory with mode 0700 there, which goes when the job ends. Where the script would end up on a command
line (OAR, HTCondor) the files are named instead, and the nodes must see the daskserver's directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from hashserver.errors import ServiceUnavailable

CALL_LIMIT = 30.0
"""Seconds that a command of the batch system may take."""

_UNREACHABLE = re.compile(
    r"unable to contact|can(no|')t connect|connect(ion)? (failure|refused|reset|timed out)"
    "|not respond|is down|unreachable",
    re.IGNORECASE,
)
"""What batch systems say when it is not about the job: SLURM, PBS, LSF."""


class Files(NamedTuple):
    """Secret files that a worker needs; None where there is none."""

    token_file: str | None = None
    """A token for the hashserver."""
    hashserver_ca_file: str | None = None
    """Who vouches for the hashserver's certificate."""
    ca_file: str | None = None
    """This and the next two: TLS between scheduler and workers."""
    cert_file: str | None = None
    key_file: str | None = None
    storage_options: str | None = None
    """What is told about stores that it reaches by itself."""

    def variables(self) -> dict[str, str]:
        """Return what names them in the environment of a worker that sees them where they are."""
        return {variable: path for name, variable in _VARIABLES.items() if (path := getattr(self, name))}


_OPTIONS = {"ca_file": "--tls-ca-file", "cert_file": "--tls-cert", "key_file": "--tls-key"}
_VARIABLES = {
    "token_file": "SEAMLESS_TOKEN_FILE",
    "hashserver_ca_file": "SEAMLESS_CA_FILE",
    "storage_options": "SEAMLESS_STORAGE_OPTIONS",
}

_PRIVATE = """\
umask 077
unset "${!SEAMLESS_@}" "${!DASK_SEAMLESS__@}"
seamless_tmp=${TMPDIR:-/tmp}
# What jobs left that were killed outright. A living one holds its lock; a young one may not have it yet.
find "$seamless_tmp" -maxdepth 1 -name 'seamless-worker-*' -user "$(id -u)" -mmin +10 \
-exec flock -n {}/lock rm -rf {} \\; 2> /dev/null
seamless=$(mktemp -d "$seamless_tmp/seamless-worker-XXXXXXXX") || exit 1
trap 'rm -rf "$seamless"' EXIT
exec 9> "$seamless/lock"
flock -n 9
"""

_CACHE = """\
export SEAMLESS_CACHE=%s
mkdir -p -m 700 "$SEAMLESS_CACHE"
if [ -L "$SEAMLESS_CACHE" ] || ! [ -O "$SEAMLESS_CACHE" ]; then
    echo "$SEAMLESS_CACHE belongs to somebody else: set seamless.worker-cache in Dask's configuration" >&2
    exit 1
fi
"""

_LOG = """\
mkdir -p "$SEAMLESS_CACHE/logs"
exec > "$SEAMLESS_CACHE/logs/"%s.log 2>&1
find "$SEAMLESS_CACHE/logs" -name '*.log' -mtime +14 -delete
"""

# Batch systems signal the shell, the worker, or both. A second signal would end the worker before it has
# cleaned up, so that the shell's own comes late.
RUN = """\
seamless_worker() {
    trap '{ sleep 3; kill "$worker"; } 2> /dev/null & late=$!' TERM INT
    "$@" &
    worker=$!
    wait "$worker"
    status=$?
    while kill -0 "$worker" 2> /dev/null; do
        wait "$worker"
        status=$?
    done
    [ -z "${late:-}" ] || kill "$late"
    return "$status"
}
"""

NO_HTTP = "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES"
"""Variable that, as an empty list, leaves a worker's HTTP server without pages: it knows no tokens."""


def carrying(files: Files, variables: dict[str, str], cache: str, log: str | None) -> list[str]:
    """Return the lines that come before the worker's command and set up what it needs.

    Parameters
    ----------
    files
        Files of this host, copied into the script.
    variables
        Further environment of the worker.
    cache
        The node's cache directory, as a word of the shell.
    log
        Name of the log in the cache directory; None: the batch system takes care of it.
    """
    lines = [_PRIVATE, _CACHE % cache]
    lines += [_LOG % shlex.quote(log)] if log else []
    for name, path in files._asdict().items():
        if path:
            with open(path, encoding="ascii") as file:
                lines.append(f"cat > \"$seamless/{name}\" << 'END OF {name}'\n{file.read()}\nEND OF {name}")
            if name in _VARIABLES:
                lines.append(f'export {_VARIABLES[name]}="$seamless/{name}"')
    return [*lines, *_exports(variables), RUN]


def naming(files: Files, variables: dict[str, str]) -> list[str]:
    """Return the lines for nodes that see the daskserver's directory."""
    return _exports(files.variables() | variables)


def _exports(variables: dict[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def tls_options(files: Files, carried: bool) -> list[str]:
    """Return the worker's options for TLS, with paths on the node."""
    if not files.cert_file:
        return []
    paths = {name: getattr(files, name) for name in _OPTIONS}
    words = [
        (_OPTIONS[name], f'"$seamless/{name}"' if carried else shlex.quote(paths[name])) for name in paths
    ]
    return [*(word for pair in words for word in pair), "--protocol", "tls://"]


class PrivateJob:
    """What dask-jobqueue's job classes lack: the script is private, and no command of the batch system hangs.

    To be mixed in before the job class.
    """

    directory: str
    """Where scripts are written; 0700."""

    @contextlib.contextmanager
    def job_file(self) -> Iterator[str]:
        """Write the script to a file that only the owner reads, and not to the log."""
        descriptor, path = tempfile.mkstemp(".sh", "job-", self.directory)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self.job_script())  # type: ignore[attr-defined]
            yield path
        finally:
            os.unlink(path)

    @staticmethod
    async def _call(cmd: list[str], *, shell: bool = False, **options: Any) -> str:
        return await call(cmd, shell=shell, **options)


async def call(words: list[str], *, shell: bool = False, limit: float = CALL_LIMIT, **options: Any) -> str:
    """Run a command of the batch system; its output.

    Raises
    ------
    RuntimeError
        It failed: the last line of what it said.
    ServiceUnavailable
        It took longer than `limit` seconds, and was ended; or it says that nobody answers.
    """
    pipe = asyncio.subprocess.PIPE
    name = os.path.basename(words[0].split()[0])
    try:
        # dask-jobqueue has a shell for one thing, bsub's standard input
        command = ["sh", "-c", *words] if shell else words
        process = await asyncio.create_subprocess_exec(
            *command, **{"stdin": asyncio.subprocess.DEVNULL, "stdout": pipe, "stderr": pipe} | options
        )
    except FileNotFoundError:
        raise ServiceUnavailable(
            f"{name} is not installed here: start the daskserver on a login node"
        ) from None
    try:
        out, err = await asyncio.wait_for(process.communicate(), limit)
    except TimeoutError:
        raise ServiceUnavailable(f"{name} did not answer within {limit:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = (err or out).decode(errors="replace").strip().splitlines()
        text = (
            f"{name}: {said[-1].removeprefix(f'{name}: ') if said else f'exit status {process.returncode}'}"
        )
        raise ServiceUnavailable(text) if _UNREACHABLE.search(text) else RuntimeError(text)
    return out.decode(errors="replace")
