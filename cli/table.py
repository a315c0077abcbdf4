"""The commands, and tables of options: data, from which click's commands and the fast reader are made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hashserver.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

FLAG, COUNT, VALUE, LIST = "flag", "count", "value", "list"
"""Kinds of options: given or not; how often given; with a value, the last one holds; with several values."""

NOTHING, FILE, DIRECTORY, PATH, PROFILE, JOB = "", "file", "dir", "path", "profile", "job"
"""What completion offers: `PATH` also what only sidecars know of, `JOB` what is under way."""
_OFFERED = {
    "FILE": FILE, "FILE|ADDRESS": FILE, "FILE|URL": FILE,
    "DIR": DIRECTORY, "PATH": PATH, "PATH[:LOCAL]": PATH,
}  # fmt: skip
"""The same by what help calls a value, where an option does not say it."""


class ParsedArguments(SimpleNamespace):
    """What a command line says: an attribute for each option and argument of the table."""


class Option(NamedTuple):
    """An option.

    Attributes
    ----------
    names : tuple of str
        With their dashes, as help shows them.
    help : str
        What it does, in a line or two.
    kind : str
        `FLAG`, `COUNT`, `VALUE` or `LIST`.
    dest : str
        The attribute of `ParsedArguments`.
    metavar : str
        What help calls the value.
    convert : callable or None
        From the text of a value to what it means; raises `ValueError` with the reason against a value.
    default : object
        The value if the option is not given.
    choices : tuple of str
        The only values, if not empty.
    completes : str
        What completion offers for the value.
    """

    names: tuple[str, ...]
    help: str
    kind: str
    dest: str
    metavar: str = ""
    convert: Callable[[str], Any] | None = None
    default: Any = None
    choices: tuple[str, ...] = ()
    completes: str = NOTHING

    @property
    def takes_value(self) -> bool:
        """Whether a value belongs to it."""
        return self.kind == VALUE or self.kind == LIST


class Argument(NamedTuple):
    """An argument; the attributes are those of `Option`, and ``many``: one or more of them, as a list."""

    dest: str
    metavar: str
    help: str
    many: bool = False
    required: bool = True
    convert: Callable[[str], Any] | None = None
    default: Any = None
    choices: tuple[str, ...] = ()
    completes: str = NOTHING


class OptionGroup(NamedTuple):
    """Options that stand together in help."""

    title: str
    options: tuple[Option, ...]


class CommandTable(NamedTuple):
    """A command's options and arguments, and what help says beside them.

    Attributes
    ----------
    description : str
        What the command does.
    groups : tuple of OptionGroup
        The options.
    arguments : tuple of Argument
        What is no option; only the last one may be many.
    examples : tuple of str
        Lines to type.
    notes : str
        What else there is to say.
    exclusive : tuple of tuple of str
        Attributes of options of which only one may be given.
    actions : dict
        Tables by the name of an action; its options may stand before the action's name too.
    usage : str
        What help shows of a line, if not what follows from the table.
    own_words : bool
        The first word that is no option and what follows are another program's.
    click_class : str
        The class of the command as click has it, if it has one of its own: ``module:class``.
    """

    description: str
    groups: tuple[OptionGroup, ...]
    arguments: tuple[Argument, ...] = ()
    examples: tuple[str, ...] = ()
    notes: str = ""
    exclusive: tuple[tuple[str, ...], ...] = ()
    actions: dict[str, CommandTable] = {}  # noqa: RUF012 - a tuple's default, never changed
    usage: str = ""
    own_words: bool = False
    click_class: str = ""

    def options(self) -> Iterator[Option]:
        """Yield the options of all groups."""
        for group in self.groups:
            yield from group.options

    def by_name(self) -> dict[str, Option]:
        """Return the options by each of their names."""
        return {name: option for option in self.options() for name in option.names}

    def defaults(self) -> dict[str, Any]:
        """Return what holds when no option is given."""
        empty: dict[str, Any] = {FLAG: False, COUNT: 0}
        return {
            option.dest: [] if option.kind == LIST else empty.get(option.kind, option.default)
            for option in self.options()
        }


def group(title: str, *options: Option) -> OptionGroup:
    """Return options that stand together in help."""
    return OptionGroup(title, options)


def flag(*names: str, help: str, dest: str = "") -> Option:  # noqa: A002 - as click calls it
    """Return an option without a value."""
    return Option(names, help, FLAG, dest or _dest(names))


def value(*names: str, metavar: str, help: str, dest: str = "", **more: Any) -> Option:  # noqa: A002
    """Return an option with a value."""
    return Option(names, help, VALUE, dest or _dest(names), metavar, **_offering(metavar) | more)


def values(*names: str, metavar: str, help: str, dest: str = "", **more: Any) -> Option:  # noqa: A002
    """Return an option that may be given again, with another value."""
    return Option(names, help, LIST, dest or _dest(names), metavar, **_offering(metavar) | more)


def _offering(metavar: str) -> dict[str, Any]:
    return {"completes": _OFFERED.get(metavar, NOTHING)}


def _dest(names: tuple[str, ...]) -> str:
    return names[-1].lstrip("-").replace("-", "_")


VERBOSE = Option(("-v", "--verbose"), "say more; -vv shows tracebacks", COUNT, "verbose")
QUIET = Option(("-q", "--quiet"), "say less; -qq hides warnings too", COUNT, "quiet")
JSON = flag("--json", help="print facts as JSON")
COMMON = OptionGroup("Common options", (VERBOSE, QUIET, JSON))
"""What every command takes that prints facts."""
QUIETLY = OptionGroup("Common options", (VERBOSE, QUIET))
"""What the others take."""
CONFIGURATION = OptionGroup(
    "Configuration (each also a setting of seamless.toml)",
    (
        value("--profile", metavar="NAME", help="use the settings of [profile.NAME]", completes=PROFILE),
        value("--daskserver", metavar="FILE|ADDRESS", help="its connection file, or tcp:// or tls://"),
        value("--hashserver", metavar="URL", help="hashserver for buffers and results"),
        value(
            "--store",
            metavar="URL",
            help="where buffers are: a directory or an fsspec URL",
            completes=DIRECTORY,
        ),
        value("--database", metavar="FILE|URL", help="result database"),
        value("--token-file", metavar="FILE", help="file with the hashserver's token"),
        value("--ca-file", metavar="FILE", help="certificate authority of the hashserver"),
    ),
)
"""The options that take the place of settings."""
USUAL = (COMMON, CONFIGURATION)


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
    "log": Command("commands.log", "say what made a file, from what, when and where; or list the last runs"),
    "why": Command("commands.why", "say whether a line is known, or what sets it apart from the nearest run"),
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


def load(name: str) -> ModuleType:
    """Import the module of a command."""
    from importlib import import_module

    return import_module(f".{COMMANDS[name].module}", __package__)
