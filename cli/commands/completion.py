"""``seamless completion SHELL``: print the script that completes our commands in a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..console import OK, Console
from ..start import entry_point
from ..table import COMMANDS, QUIETLY, Argument, CommandTable

if TYPE_CHECKING:
    from ..table import ParsedArguments

SHELLS = ("bash", "zsh", "fish")

TABLE = CommandTable(
    "Print the completion script of a shell: for seamless, and for each seamless-X.",
    (QUIETLY,),
    (Argument("shell", "SHELL", "the shell to write for: bash, zsh or fish", choices=SHELLS),),
    examples=(
        'eval "$(seamless completion bash)"    # in ~/.bashrc',
        'eval "$(seamless completion zsh)"     # in ~/.zshrc, after compinit',
        "seamless completion fish | source    # in ~/.config/fish/config.fish",
    ),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Print the script."""
    from ..completion import script

    for name in command_names():
        console.print(script(name, arguments.shell))
    return OK


def command_names() -> list[str]:
    """All names that a person types: the group and its commands."""
    return ["seamless", *(f"seamless-{name}" for name in COMMANDS if name != "completion")]


main = entry_point(TABLE, execute, "seamless completion")
