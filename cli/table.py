"""The commands."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A command of the group: the module that does it, and what it does."""

    module: str
    help: str


COMMANDS = {
    "run": Command("run.command", "run a command, or find its result"),
    "upload": Command("commands.upload", "store files and directories, write their sidecars"),
    "download": Command("commands.download", "fetch what sidecars name"),
    "resolve": Command("commands.resolve", "print the bytes of a checksum"),
    "fingertip": Command("commands.fingertip", "the same, recomputing bytes that are gone"),
    "run-transformation": Command(
        "commands.run_transformation", "run a transformation by its checksum or document"
    ),
    "cancel": Command("commands.cancel", "cancel computations that wait or run"),
    "checksum": Command("commands.checksum", "print checksums of files and directories"),
    "checksum-index": Command("commands.checksum_index", "write the index and checksum of a directory"),
    "queue": Command("queue.start", "run what seamless-run --qsubmit submits"),
    "queue-finish": Command("queue.finish", "wait until the queue has drained, and end it"),
    "status": Command("commands.status", "show the configuration in force, services and running jobs"),
    "trust": Command("commands.trust", "let a project's seamless.toml say more than what cannot harm"),
    "init": Command("commands.init", "start a hashserver for this host's store"),
    "daskserver": Command(
        "commands.daskserver", "start, stop, look at or connect to the services that compute"
    ),
    "completion": Command("commands.completion", "print the completion script of a shell"),
}
