"""click's commands, made from the tables: for lines that are not plain, help, errors and completion."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from seamless_dask.errors import UsageError

from .console import USAGE, Console, carry_out, guarded, suggestion
from .table import COUNT, FLAG, LIST, VALUE, ParsedArguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from .console import Execute
    from .table import Argument, CommandTable, Option

HELP_NAMES = ["-h", "--help"]
COLUMN = 30
"""Where the text of an option begins in help, at most."""
_DASHED = re.compile(r"-[^0-9.]")
_GIVEN = ParameterSource.COMMANDLINE


class LineError(click.ClickException):
    """A line that cannot be read, told in one line."""

    exit_code = USAGE

    def __init__(self, prog: str, message: str) -> None:
        super().__init__(message)
        self.prog = prog

    def show(self, file: Any = None) -> None:
        """Say it as all messages are said."""
        Console(self.prog).error(self.message)


def make(table: CommandTable, name: str | None = None, execute: Execute | None = None) -> TableCommand:
    """Return click's command of a table."""
    if table.click_class:
        from importlib import import_module

        module, _, class_name = table.click_class.partition(":")
        own: type[TableCommand] = getattr(import_module(module, __package__), class_name)
        return own(table, name, execute)
    return (TableGroup if table.actions else TableCommand)(table, name, execute)


def read(command: click.Command, words: Sequence[str], prog: str) -> ParsedArguments:
    """Read a line as click does.

    Raises
    ------
    UsageError
        It is not a line of the command.
    SystemExit
        It was answered: help, or a completion.
    """
    try:
        found = command.main(words, prog, standalone_mode=False)
    except LineError as error:
        raise UsageError(error.message) from None
    except click.Abort:
        raise KeyboardInterrupt from None
    if not isinstance(found, ParsedArguments):
        raise SystemExit(found)
    return found


class TableCommand(click.Command):
    """A command that is made from a table.

    Parameters
    ----------
    table : CommandTable
        The options.
    execute : callable or None
        Does what is asked; without it the arguments are what the command gives.
    """

    def __init__(
        self, table: CommandTable, name: str | None = None, execute: Execute | None = None, **more: Any
    ) -> None:
        parameters = [*map(_option, table.options()), *map(_argument, table.arguments)]
        settings = {"help_option_names": HELP_NAMES}
        super().__init__(name, params=parameters, context_settings=settings, help=table.description, **more)
        self.table, self.execute, self.options = table, execute, table.by_name()
        if table.own_words:
            self.allow_interspersed_args = False

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the line; what is wrong with it is told in one line."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except (click.UsageError, UsageError) as error:
            self.complain(error, f"{parent.command_path} {info_name}" if parent else info_name or "")

    def complain(self, error: click.UsageError | UsageError, prog: str) -> NoReturn:
        """Raise what is told of an error."""
        if isinstance(error, UsageError):
            raise LineError(prog, str(error)) from None
        raise LineError(prog, f"{self._text(error)}; {prog} --help lists the options") from None

    def _text(self, error: click.UsageError) -> str:
        if isinstance(error, click.NoSuchOption):
            return f"no option {error.option_name}{suggestion(error.option_name, self.options)}"
        if isinstance(error, click.BadOptionUsage):
            option = self.options[error.option_name]
            what = "expected one argument" if option.takes_value else "takes no argument"
            return f"argument {'/'.join(option.names)}: {what}"
        if isinstance(error, click.BadParameter) and error.param is not None:
            argument = isinstance(error.param, click.Argument)
            name = str(error.param.metavar) if argument else "/".join(error.param.opts)
            if isinstance(error, click.MissingParameter):
                return f"the following arguments are required: {name}"
            return f"argument {name}: {error.message}"
        return error.message

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; while a line is completed it need not be right."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        rest = super().parse_args(ctx, self.written_out(args))
        self._refuse_exclusive(ctx)
        return rest

    def written_out(self, words: Sequence[str]) -> list[str]:
        """Return the words in an order and a form in which click reads them as they are meant.

        To click the equals sign of ``-o=FILE`` is part of the value, and a file ``-3`` an option.

        Raises
        ------
        UsageError
            A value looks like an option, which click would take.
        """
        left, ready, others = list(words), list[str](), list[str]()
        while left and left[0] != "--" and (is_dashed(left[0]) or self.allow_interspersed_args):
            word = left.pop(0)
            if not _DASHED.match(word) and self.allow_interspersed_args:
                others.append(word)
                continue
            ready.append(word)
            option, takes_next = self.option_of(word)
            if option is None:  # click says that there is no such option, or shows help
                break
            name, equals, text = word.partition("=")
            if takes_next and left:
                refuse_dashed(option, word, left[0])
                ready.append(left.pop(0))
            elif option.takes_value and equals and name in option.names and not name.startswith("--"):
                ready[-1:] = [name, text]
        if not others:
            return ready + left
        return [*ready, "--", *others, *left[left[:1] == ["--"] :]]

    def option_of(self, word: str) -> tuple[Option | None, bool]:
        """Return the option that a word ends with, and whether its value is the next word."""
        name, equals, _ = word.partition("=")
        if name in self.options:
            return self.options[name], self.options[name].takes_value and not equals
        option = None
        for position, letter in enumerate(word[1:], 2):
            option = self.options.get(f"-{letter}")
            if option is None or option.takes_value:
                return option, option is not None and position == len(word)
        return option, False

    def _refuse_exclusive(self, ctx: click.Context) -> None:
        names = {option.dest: "/".join(option.names) for option in self.table.options()}
        for among in self.table.exclusive:
            given = [names[name] for name in among if ctx.get_parameter_source(name) is _GIVEN]
            if len(given) > 1:
                ctx.fail(f"argument {given[1]}: not allowed with argument {given[0]}")

    def arguments(self, ctx: click.Context) -> ParsedArguments:
        """Return what was read."""
        return ParsedArguments(**(self.table.defaults() | self.given(ctx)))

    def given(self, ctx: click.Context) -> dict[str, Any]:
        """Return what was said, and the arguments."""
        lists = {option.dest for option in self.table.options() if option.kind == LIST}
        lists |= {argument.dest for argument in self.table.arguments if argument.many}
        found = {
            name: list(value) if name in lists else value
            for name, value in ctx.params.items()
            if ctx.get_parameter_source(name) is _GIVEN
        }
        return {argument.dest: argument.default for argument in self.table.arguments} | found

    def invoke(self, ctx: click.Context) -> ParsedArguments:
        """Do what is asked, or give the arguments."""
        try:
            found = self.arguments(ctx)
        except UsageError as error:
            self.complain(error, ctx.command_path)
        if self.execute is None:
            return found
        execute, console = self.execute, Console(ctx.command_path)
        status = guarded(lambda: carry_out(execute, found, console), console)
        return ctx.exit(status)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return what the usage line shows."""
        if self.table.usage:
            return [self.table.usage]
        shown = [f"{entry.metavar}…" if entry.many else entry.metavar for entry in self.table.arguments]
        return ["[OPTIONS]", *shown, *(["ACTION"] if self.table.actions else [])]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write arguments and options, a section each group."""
        _section(formatter, "Arguments", [(entry.metavar, entry.help) for entry in self.table.arguments])
        actions = self.table.actions.items()
        _section(formatter, "Actions", [(name, table.description) for name, table in actions])
        for group in self.table.groups:
            _section(formatter, group.title, [(_shown(option), option.help) for option in group.options])
        _section(formatter, "Help", [(", ".join(HELP_NAMES), "show this")])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write notes and examples."""
        if self.table.notes:
            formatter.write_paragraph()
            formatter.write_text(self.table.notes)
        with formatter.section("Examples" if len(self.table.examples) > 1 else "Example"):
            for line in self.table.examples:
                formatter.write(f"{' ' * formatter.current_indent}{line}\n")


class TableGroup(TableCommand, click.Group):
    """A command with actions, which is made from a table."""

    def __init__(self, table: CommandTable, name: str | None = None, execute: Execute | None = None) -> None:
        super().__init__(table, name, execute, no_args_is_help=False)
        for action, below in table.actions.items():
            self.add_command(_Action(below, action, execute))

    def invoke(self, ctx: click.Context) -> Any:
        """Read the action."""
        try:
            return click.Group.invoke(self, ctx)
        except click.UsageError as error:
            choices, prog = ", ".join(self.commands), ctx.command_path
            what = error.message.rstrip(".")
            raise LineError(prog, f"{what}: ACTION is one of {choices}; {prog} --help says more") from None


class _Action(TableCommand):
    """An action; what was said before its name holds unless it is said again."""

    def arguments(self, ctx: click.Context) -> ParsedArguments:
        above = ctx.parent
        assert above is not None
        assert isinstance(above.command, TableGroup)
        defaults = above.command.table.defaults() | self.table.defaults()
        given = above.command.given(above) | self.given(ctx)
        return ParsedArguments(**(defaults | given | {"action": self.name}))


def is_dashed(word: str) -> bool:
    """Whether a word is no value but an option, to click."""
    return word.startswith("-") and word != "-"


def refuse_dashed(option: Option, word: str, value: str) -> None:
    """Say how a value is written that looks like an option."""
    if not _DASHED.match(value):
        return
    name = option.names[-1]
    way = f"{name}={value}" if name.startswith("--") else f"./{value}"
    raise UsageError(f"{word} {value}: a value that begins with a dash is written {way}")


def _shown(option: Option) -> str:
    return f"{', '.join(option.names)} {option.metavar}".rstrip()


def _section(formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows, COLUMN)


class _Value(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """What a table says of a value."""

    def __init__(self, entry: Option | Argument) -> None:
        self.entry, self.name = entry, entry.metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if self.entry.choices and value not in self.entry.choices:
            choices = ", ".join(map(repr, self.entry.choices))
            self.fail(f"invalid choice: {value!r} (choose from {choices})", param, ctx)
        try:
            return value if self.entry.convert is None else self.entry.convert(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from .completion import offers

        return offers(self.entry, incomplete, ctx.params)


def _option(option: Option) -> click.Parameter:
    kinds: dict[str, dict[str, Any]] = {
        FLAG: {"is_flag": True},
        COUNT: {"count": True},
        VALUE: {"type": _Value(option), "metavar": option.metavar},
        LIST: {"type": _Value(option), "metavar": option.metavar, "multiple": True},
    }
    return click.Option([*option.names, option.dest], help=option.help, **kinds[option.kind])


def _argument(argument: Argument) -> click.Parameter:
    return click.Argument(
        [argument.dest],
        type=_Value(argument),
        metavar=argument.metavar,
        nargs=-1 if argument.many else 1,
        required=argument.required,
    )
