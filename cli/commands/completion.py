"""``seamless completion SHELL``: print the script that completes our commands in a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..console import OK, Console, add_common, new_parser, start
from ..table import COMMANDS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

SHELLS = ("bash", "zsh", "fish")


def parser(prog: str = "seamless completion") -> argparse.ArgumentParser:
    """Command line of ``seamless completion``."""
    result = new_parser(
        prog,
        "Print the completion script of a shell.",
        epilog='bash: eval "$(seamless completion bash)" in ~/.bashrc;'
        ' zsh: eval "$(seamless completion zsh)" in ~/.zshrc, after compinit;'
        " fish: seamless completion fish > ~/.config/fish/completions/seamless.fish",
    )
    result.add_argument("shell", choices=SHELLS, help="the shell to write for")
    add_common(result)
    return result


def execute(arguments: argparse.Namespace, console: Console) -> int:
    """Print the script."""
    from argcomplete.shell_integration import shellcode

    console.print(shellcode(command_names(), shell=arguments.shell))
    return OK


def command_names() -> list[str]:
    """All names that a person types: the group and its commands."""
    return ["seamless", *(f"seamless-{name}" for name in COMMANDS if name != "completion")]


def main(argv: Sequence[str] | None = None, prog: str = "seamless completion") -> int:
    """Entry point."""
    return start(parser(prog), execute, argv)
