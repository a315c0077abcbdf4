"""What a running command may ask for."""

from __future__ import annotations

from ..model.options import Options
from ..protocol.jobs import Refused

ITSELF = "{key} waits for the command that asks for it: a command cannot wait for itself"
_INSTEAD = ", which the identity does not tell: make it part of the inner command, or give it to this one"


def confined(options: Options, bounds: Options | None) -> Options:
    """Return options that ask for nothing outside of a sandbox, nor do those of what is needed first.

    What a sandboxed command asks for is recorded under an identity that may be other people's. So it may say
    what that takes, and which software of the host runs it, but add no code or variable that the identity
    does not contain, unless the user has given that to the command itself.

    Parameters
    ----------
    options
        What is asked for.
    bounds
        Options of the command that asks, which runs in a sandbox; None for one that does not.

    Raises
    ------
    Refused
        Something was asked for out of a sandbox that the user has not given to the command.
    """
    if bounds is not None:
        _refuse_own_choice(options, bounds)
    sandboxed = bounds is not None
    isolation = "bubblewrap" if sandboxed else "auto" if options.isolation == "none" else options.isolation
    upstream = {
        key: confined(Options.from_json(said), bounds).to_json() for key, said in options.upstream.items()
    }
    return options._replace(isolation=isolation, upstream=upstream)


def _refuse_own_choice(options: Options, bounds: Options) -> None:
    """Raise `Refused` for what a sandboxed command must not choose by itself."""
    if options.image:
        raise Refused(403, "a sandboxed command cannot ask for an image: it shows more than a sandbox does")
    if options.prologue and options.prologue != bounds.prologue:
        raise Refused(403, f"a sandboxed command cannot ask for a prologue of its own{_INSTEAD}")
    if own := dict(options.metavars.items() - bounds.metavars.items()):
        raise Refused(403, f"a sandboxed command cannot ask for --metavar {min(own)} of its own{_INSTEAD}")
    if options.source or options.ignored:
        raise Refused(
            403, "a sandboxed command cannot ask for a function with version= or ignore=" + _INSTEAD
        )
    # by its path a module is any file, such as an input
    if paths := [name for name in options.modules if name.startswith(("/", ".", "~"))]:
        raise Refused(403, f"a sandboxed command cannot ask for the module file {paths[0]}: name a module")
