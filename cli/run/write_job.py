"""``seamless-run --write-job DIR``: a job as files, to look at, to run by hand, to send to somebody.

::

    DIR/transformation.json   the canonical form
    DIR/options.json          how it is to be run
    DIR/command.sh            the shell text
    DIR/run.sh                runs the command by hand, in work/
    DIR/work/…                the inputs, under the names that the command knows them by
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hashserver.workspace.sidecar import write_atomic
from seamless_dask.model.transformation import Deferred, Value

from ..console import OK, CommandError, Console
from ..data.deliver import fetch, make_parent
from ..shell.word import quote
from .job import CommandJob, options_of

if TYPE_CHECKING:
    from seamless_dask.context import Context
    from seamless_dask.model.options import Options

    from ..table import ParsedArguments

SHELL_FLAGS = "-eo pipefail"


def write_job(context: Context, job: CommandJob, arguments: ParsedArguments, console: Console) -> int:
    """Write the job to a new directory."""
    root = arguments.write_job
    if os.path.lexists(root):
        raise CommandError(f"{root} is there already: --write-job makes a new directory")
    waiting = job.transformation.references
    if waiting:
        raise CommandError(
            f"an input is still being computed (by {waiting[0].of}): write the job when it is there"
        )
    from .compute import store_inputs

    store_inputs(context, job, arguments, console)
    options = options_of(arguments, job, context.config.isolation)
    folder = place_of_work(job)
    work = os.path.join(root, folder)
    os.makedirs(work)
    for name, value in job.transformation.inputs.items():
        _place(context, work, name, value, console)
    for name in options.executables:
        path = os.path.normpath(os.path.join(work, name))
        if os.path.isfile(path):
            mode = os.stat(path).st_mode
            os.chmod(path, mode | (mode & 0o444) >> 2)
    if job.transformation.stdin is not None:
        _place(context, root, "stdin", job.transformation.stdin, console)
    write_atomic(os.path.join(root, "transformation.json"), job.document)
    write_atomic(os.path.join(root, "options.json"), (options.to_json() + "\n").encode())
    write_atomic(os.path.join(root, "command.sh"), job.text.encode() + b"\n")
    write_atomic(os.path.join(root, "run.sh"), run_script(job, folder, options).encode(), mode=0o777)
    console.note(f"{root}: the job; {os.path.join(root, 'run.sh')} runs it by hand,")
    console.note(
        f"seamless-run-transformation {os.path.join(root, 'transformation.json')} as it would be run"
    )
    if console.json:
        console.facts({"key": job.key, "directory": os.path.abspath(root)})
    return OK


def place_of_work(job: CommandJob) -> str:
    """Return the working directory below the job's, as many levels deep as ``../`` in the inputs takes."""
    depth = max((_climbs(name) for name in job.transformation.inputs), default=0)
    return "/".join(["work", *(str(level) for level in range(1, depth + 1))])


def _climbs(name: str) -> int:
    return sum(part == ".." for part in name.split("/"))


def _place(context: Context, root: str, name: str, value: Value | Deferred, console: Console) -> None:
    assert isinstance(value, Value)
    path = os.path.normpath(os.path.join(root, name))
    make_parent(path)
    if value.format == "directory":
        from hashserver.workspace.tree import parse_index

        fetch(context.store, path, parse_index(context.store.get(value.checksum), path), console)
    else:
        context.store.get_file(value.checksum, path)


def run_script(job: CommandJob, folder: str, options: Options) -> str:
    """Return a script that runs the command in its directory."""
    transformation = job.transformation
    lines = [
        "#!/bin/bash",
        "# Runs the command by hand; nothing is recorded.",
        "set -e",
        'cd "$(dirname "$0")"',
    ]
    if options.image:  # what follows runs in it
        inner = f'apptainer exec --bind "$PWD" --pwd "$PWD" {quote(options.image)} bash run.sh'
        lines.append(f'[ -n "$APPTAINER_CONTAINER$SINGULARITY_CONTAINER" ] || exec {inner}')
    lines.append("job=$PWD")
    variables = {**(transformation.variables or {}), **options.metavars}
    lines += [f"export {name}={quote(value)}" for name, value in sorted(variables.items())]
    lines += [f"module load {quote(name)}" for name in options.modules]
    if options.conda:
        lines += ['eval "$(conda shell.bash hook)"', f"conda activate {quote(options.conda)}"]
    lines += list(options.prologue)
    for path in (*transformation.result.paths, *transformation.result.globs):
        if "/" in path:
            lines.append(f"mkdir -p {quote(os.path.join(folder, os.path.dirname(path)))}")
    flags = SHELL_FLAGS if transformation.shell_flags is None else transformation.shell_flags
    stdin = '"$job/stdin"' if transformation.stdin is not None else "/dev/null"
    lines.append(f"cd {quote(folder)}")
    lines.append(f'exec bash {flags} "$job/command.sh" < {stdin}')
    return "\n".join(lines) + "\n"
