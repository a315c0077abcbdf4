"""Pipelines whose early stages are ended by SIGPIPE count as successes.

``yes | head -1`` fails under ``pipefail``, because `yes` dies by SIGPIPE: status 141. Bash has no option for
that. So every pipeline in the command's text becomes ::

    case $((__seamless_level=BASH_SUBSHELL)) in
      (*) yes | head -1; __seamless_pipe "$?" "${PIPESTATUS[@]}" "$_";;
    esac

where the function returns 0 when the last stage succeeded and all others ended with 0 or 141, and the
pipeline's own status otherwise. So it is right in conditions, lists, functions, subshells and
substitutions alike. Where ``-e`` would end the shell first, an ERR trap lets exactly the marked pipeline
of this very shell pass: it switches ``-e`` off for the moment, and the function switches it on again.
`case` is what neither touches ``$?``, which the pipeline may use, nor counts for ``break``; ``$_`` is handed
through.

What cannot be marked is judged as Bash does it, which is the safe side: 141 is a failure there. These are
texts that come by ``eval`` and ``source``, stand in backticks or here-documents, lists that go on behind a
here-document, pipelines in the background, scripts that could see the marks, and those that the grammar
cannot read.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Node = Any

PRELUDE = """\
__seamless_level= __seamless_off=
__seamless_excused() {
  [[ ${!#} == 0 ]] || builtin return 1
  while [[ $# != 0 ]]; do
    [[ $1 == 0 || $1 == 141 ]] || builtin return 1
    builtin shift
  done
}
__seamless_pipe() {
  __seamless_level=
  if [[ $__seamless_off ]]; then __seamless_off=; builtin set -e; fi
  if [[ $1 == 0 ]] || __seamless_excused "${@:2:$#-2}"; then builtin return 0; fi
  builtin return "$1"
}
__seamless_err() {
  if [[ $__seamless_level == "$BASH_SUBSHELL" && $- == *e* ]] && __seamless_excused "${@:2}"; then
    __seamless_off=1
    builtin set +e
  fi
}
set -E
trap '__seamless_err "$?" "${PIPESTATUS[@]}"' ERR
"""

_OPEN = b" case $((__seamless_level=BASH_SUBSHELL)) in (*) "
_CLOSE = b'; __seamless_pipe "$?" "${PIPESTATUS[@]}" "$_";; esac'
# in `! a | b` the status is not looked at by -e, and must not end the group either
_OPEN_NEGATED = b" { "
_CLOSE_NEGATED = b' || __seamless_pipe "$?" "${PIPESTATUS[@]}" "$_"; }'
# Scripts that could see the marks: they look at what a pipeline leaves behind, trace or trap what is run,
# look at functions or hand them on to other shells, or run a stage in the shell itself.
_COULD_SEE = re.compile(
    r"""PIPESTATUS | BASH_COMMAND | __seamless_ | lastpipe | extdebug
    | allexport | xtrace | errtrace | functrace
    | \bset\s+ ([-+]\w*\s+(\w+\s+)?)* [-+]\w*[aETx]
    | \btrap\b (?=[\s\S]*\b(?i:(SIG)?(ERR|DEBUG|RETURN))\b)
    | \b(export|declare|typeset)\s+ (-\w+\s+)* -\w*[fFp]
    | \b(set|trap)\s* (-p|[;&|)\n]|$)""",
    re.VERBOSE,
)
_CHAINS = {"pipeline", "list", "redirected_statement"}
# the name of a command is none of these: where the grammar says so (``! if``, ``time {``) it has gone astray
_RESERVED = set(b"! { } if then else elif fi while until for do done case esac select function [[ ]]".split())
_LISTS = {"&&", "||"}
_HEREDOC_PARTS = {"<<", "<<-", "heredoc_start", "file_redirect", "word", "number"}


class _Chain:
    """One and-or list of the grammar, taken apart and put together again.

    The grammar nests lists inside pipelines now and then (``a | b && c | d || e``) and hides the rest of a
    line behind a here-document. The order of stages and operators is right all the same, so pipelines
    are found from that.
    """

    def __init__(self, root: Node) -> None:
        self.inner: list[Node] = []
        self.segments: list[list[Node]] = [[]]
        self.ends: list[int] = [0]
        self.clear = True
        waiting = [root]  # not recursive: lists of a thousand commands are nested a thousand deep
        while waiting:
            waiting += reversed(self._add(waiting.pop()))

    def marks(self) -> Iterator[tuple[int, bytes]]:
        """Yield what is to be inserted, and where."""
        for stages, end in zip(self.segments, self.ends, strict=True):
            if self.clear and len(stages) > 1:
                negated = stages[0].type == "negated_command"
                first = stages[0].children[1] if negated else stages[0]
                yield first.start_byte, _OPEN_NEGATED if negated else _OPEN
                yield end, _CLOSE_NEGATED if negated else _CLOSE

    def _add(self, node: Node) -> list[Node]:
        """Take a node in, and return those of its children that are to be taken in next."""
        if node.type in _CHAINS:
            return list(node.children)
        if node.type in _LISTS:
            self.segments.append([])
            self.ends.append(0)
        elif node.type == "heredoc_redirect":
            return self._add_heredoc(node)
        elif node.type.endswith("_redirect"):
            self._extend(node)
        elif node.is_named and node.type != "comment":
            self.segments[-1].append(node)
            self._extend(node)
        return []

    def _add_heredoc(self, node: Node) -> list[Node]:
        pipelines = []
        for child in node.children:
            if child.type == "pipeline":
                pipelines.append(child)
            elif child.type in _HEREDOC_PARTS:
                self._extend(child)
            elif child.type not in ("heredoc_body", "heredoc_end"):
                self.clear = False
        return pipelines

    def _extend(self, node: Node) -> None:
        self.ends[-1] = node.end_byte
        self.inner.append(node)


def excuse(text: str, flags: Sequence[str] = ("-eo", "pipefail")) -> str:
    """Return `text` with its pipelines marked; unchanged when there is nothing that can be.

    Parameters
    ----------
    text : str
        A script.
    flags : sequence of str
        Those that the shell is started with.
    """
    if "|" not in text or "pipefail" not in flags or _COULD_SEE.search(f"set {shlex.join(flags)}\n{text}"):
        return text
    source = text.encode("utf-8", "surrogateescape")
    try:
        marks = sorted(_marks(_parse(source)), key=lambda mark: mark[0])
    except _Astray:
        return text
    parts, done = [], 0
    for position, inserted in marks:
        parts += [source[done:position], inserted]
        done = position
    marked = b"".join([*parts, source[done:]])
    return marked.decode("utf-8", "surrogateescape") if marks and _is_valid(marked) else text


class _Astray(Exception):
    """The grammar has misread the text."""


def _is_valid(source: bytes) -> bool:
    """Let Bash itself say whether it can read the text: a command must never fail for having been marked."""
    import subprocess

    from .shell import system_shell

    done = subprocess.run([system_shell(), "-n"], input=source, capture_output=True, check=False)
    return done.returncode == 0


def _parse(source: bytes) -> Node:
    import tree_sitter
    import tree_sitter_bash

    language = tree_sitter.Language(tree_sitter_bash.language())
    return tree_sitter.Parser(language).parse(source).root_node


def _marks(root: Node) -> Iterator[tuple[int, bytes]]:
    """Yield what is to be inserted, and where."""
    waiting = [] if root.has_error else [root]
    while waiting:
        node = waiting.pop()
        if node.type == "heredoc_body" or (
            node.type == "command_substitution" and node.children[0].type == "`"
        ):
            continue
        if node.type == "command_name" and node.text in _RESERVED:
            raise _Astray
        if node.type not in _CHAINS:
            waiting += node.children
            continue
        chain = _Chain(node)
        for inner in chain.inner:
            waiting += inner.children
        follower = node.next_sibling
        # `a | b &`: a group would change what $! is, and nobody looks at the status
        if follower is None or follower.type != "&":
            yield from chain.marks()
