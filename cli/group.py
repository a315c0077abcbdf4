"""The group ``seamless`` as click has it; Dask has it too, as ``dask seamless`` (entry point ``dask_cli``).

A command's module is imported when the command is asked for: ``dask --help`` must not wait for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from .by_click import COLUMN, HELP_NAMES, LineError, make
from .console import USAGE, Console
from .start import is_completing
from .table import COMMANDS, load

if TYPE_CHECKING:
    from collections.abc import Sequence


class SeamlessGroup(click.Group):
    """The commands of `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = load(cmd_name)
        return make(module.TABLE, cmd_name, module.execute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant."""
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, 1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            prog = ctx.command_path
            raise LineError(prog, f"no command {args[0]!r}{meant}; {prog} --help lists them")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the table says of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()], COLUMN)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write an example."""
        with formatter.section("Example"):
            formatter.write(f"{' ' * formatter.current_indent}{ctx.command_path} run wc -l data.csv\n")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that a word may become, and the options."""
        found = [(name, command.help) for name, command in COMMANDS.items() if name.startswith(incomplete)]
        return [
            *(CompletionItem(name, help=text) for name, text in found),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]


def _version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from seamless_dask.version import __version__

        click.echo(f"seamless-dask {__version__}")
        ctx.exit()


group = SeamlessGroup(
    "seamless",
    help="Run commands where the data is not, and never the same thing twice.",
    context_settings={"help_option_names": HELP_NAMES},
    no_args_is_help=False,
    params=[
        click.Option(
            ["-V", "--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version,
            help="Show the version.",
        )
    ],
)  # fmt: skip
"""The group."""


def run_group(words: Sequence[str]) -> int:
    """Do what the group does by itself: help, the version, completion, complaints; return the status."""
    if not words and not is_completing("seamless"):
        click.echo(group.get_help(click.Context(group, info_name="seamless")), err=True)
        return USAGE
    try:
        words = ["--help"] if words[:1] == ["help"] else words
        status: Any = group.main(words, "seamless", standalone_mode=False)
    except click.UsageError as error:
        Console("seamless").error(f"{error.format_message().rstrip('.')}; seamless --help lists the commands")
        return USAGE
    except LineError as error:
        error.show()
        return error.exit_code
    return int(status or 0)
