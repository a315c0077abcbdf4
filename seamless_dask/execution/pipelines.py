"""Pipelines whose early stages are ended by SIGPIPE count as successes.

``yes | head -1`` fails under ``pipefail``, because `yes` dies by SIGPIPE: status 141. Bash has no option for
that. So every pipeline in the command's text becomes ::

    { __seamless_level=$BASH_SUBSHELL; yes | head -1; __seamless_pipe "$?" "${PIPESTATUS[@]}"; }

where the function returns 0 when the last stage succeeded and all others ended with 0 or 141, and the
pipeline's own status otherwise. So it is right in conditions, lists, functions, subshells and
substitutions alike. Where ``-e`` would end the shell first, an ERR trap lets exactly the marked pipeline
of this very shell pass: it switches ``-e`` off for the moment, and the function switches it on again.

What cannot be marked is judged as Bash does it, which is the safe side: 141 is a failure there. These are
texts that come by ``eval`` and ``source`` or stand in backticks, lists that go on behind a here-document,
pipelines in the background, scripts that have an ERR trap or use PIPESTATUS themselves, and those that
the grammar cannot read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    Node = Any

PRELUDE = """\
__seamless_level= __seamless_off=
__seamless_excused() {
  local s
  [[ ${!#} == 0 ]] || return 1
  for s; do [[ $s == 0 || $s == 141 ]] || return 1; done
}
__seamless_pipe() {
  local s=$1
  shift
  __seamless_level=
  if [[ $s != 0 ]] && __seamless_excused "$@"; then s=0; fi
  if [[ $__seamless_off ]]; then __seamless_off=; set -e; fi
  return "$s"
}
__seamless_err() {
  if [[ $__seamless_level == "$BASH_SUBSHELL" && $- == *e* ]] && __seamless_excused "${@:2}"; then
    __seamless_off=1
    set +e
  fi
}
set -E
trap '__seamless_err "$?" "${PIPESTATUS[@]}"' ERR
"""

_OPEN = b" { __seamless_level=$BASH_SUBSHELL; "
_CLOSE = b'; __seamless_pipe "$?" "${PIPESTATUS[@]}"; }'
# in `! a | b` the status is not looked at by -e, and must not end the group either
_CLOSE_NEGATED = b' || __seamless_pipe "$?" "${PIPESTATUS[@]}"; }'
_CHAINS = {"pipeline", "list", "redirected_statement"}
# the name of a command is none of these: where the grammar says so (``! if``, ``time {``) it has gone astray
_RESERVED = {
    b"!",
    b"{",
    b"}",
    b"if",
    b"then",
    b"else",
    b"elif",
    b"fi",
    b"while",
    b"until",
    b"for",
    b"do",
    b"done",
}
_RESERVED |= {b"case", b"esac", b"select", b"function", b"[[", b"]]"}
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
        self._add(root)

    def pipelines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield start and end of each pipeline, and what is to follow it."""
        for stages, end in zip(self.segments, self.ends, strict=True):
            if self.clear and len(stages) > 1:
                negated = stages[0].type == "negated_command"
                first = stages[0].children[1] if negated else stages[0]
                yield first.start_byte, end, _CLOSE_NEGATED if negated else _CLOSE

    def _add(self, node: Node) -> None:
        if node.type in _CHAINS:
            for child in node.children:
                self._add(child)
        elif node.type in _LISTS:
            self.segments.append([])
            self.ends.append(0)
        elif node.type == "heredoc_redirect":
            self._add_heredoc(node)
        elif node.type.endswith("_redirect"):
            self._extend(node)
        elif node.is_named and node.type != "comment":
            self.segments[-1].append(node)
            self._extend(node)

    def _add_heredoc(self, node: Node) -> None:
        for child in node.children:
            if child.type in ("heredoc_body", "heredoc_end"):
                self.inner.append(child)
            elif child.type == "pipeline":
                self._add(child)
            elif child.type in _HEREDOC_PARTS:
                self._extend(child)
            else:
                self.clear = False

    def _extend(self, node: Node) -> None:
        self.ends[-1] = node.end_byte
        self.inner.append(node)


def excuse(text: str) -> str:
    """Return `text` with its pipelines marked; unchanged when there is nothing that can be."""
    if "|" not in text or "PIPESTATUS" in text or "__seamless_" in text:
        return text
    source = text.encode("utf-8", "surrogateescape")
    edits: list[tuple[int, bytes]] = []
    try:
        for start, end, close in _pipelines(_parse(source)):
            edits += [(start, _OPEN), (end, close)]
    except _Astray:
        return text
    for position, inserted in sorted(edits, key=lambda edit: edit[0], reverse=True):
        source = source[:position] + inserted + source[position:]
    return source.decode("utf-8", "surrogateescape") if edits and _is_valid(source) else text


class _Astray(Exception):
    """The grammar has misread the text."""


def _is_valid(source: bytes) -> bool:
    """Let Bash itself say whether it can read the text: a command must never fail for having been marked."""
    import subprocess

    return subprocess.run(["bash", "-n"], input=source, capture_output=True, check=False).returncode == 0


def _parse(source: bytes) -> Node:
    import tree_sitter
    import tree_sitter_bash

    language = tree_sitter.Language(tree_sitter_bash.language())
    return tree_sitter.Parser(language).parse(source).root_node


def _pipelines(root: Node) -> Iterator[tuple[int, int, bytes]]:
    """Yield start and end of each pipeline, and what is to follow it."""
    waiting = [] if root.has_error else [root]
    while waiting:
        node = waiting.pop()
        if node.type == "command_substitution" and node.children[0].type == "`":
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
            yield from chain.pipelines()
