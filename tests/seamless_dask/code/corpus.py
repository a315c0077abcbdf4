"""The printer on whole libraries, and the goldens, on whatever Python this is: prints one line of JSON.

``python corpus.py LIBRARY [EVERY]``: all files below a directory, or every n-th of them. It needs no package
but the room itself.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Iterator

from seamless_dask.code.identity import identify
from seamless_dask.code.loading import load
from seamless_dask.code.printer import checked, same

sys.path.insert(0, str(pathlib.Path(__file__).parent))
cases = importlib.import_module("cases")
golden = importlib.import_module("golden")


def trees(library: pathlib.Path, every: int) -> Iterator[tuple[str, ast.Module]]:
    """Yield what Python can read; some files of its own tests it is not meant to."""
    files = [path for path in sorted(library.rglob("*.py")) if "site-packages" not in path.parts]
    for path in files[::every]:
        try:
            yield str(path.relative_to(library)), ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue


def of_library(library: pathlib.Path, every: int) -> tuple[int, list[str], str]:
    """Return the number of files, what went wrong, and a digest of all texts."""
    number, bad, digest = 0, [], hashlib.sha256()
    for name, tree in trees(library, every):
        number += 1
        try:
            text = checked(tree.body)
            back = ast.parse(text)
            if not same(back, tree) or checked(back.body) != text:
                bad.append(f"{name}: its text has another text")
            digest.update(text.encode())
        except Exception as error:
            bad.append(f"{name}: {error}")
    return number, bad, digest.hexdigest()


def of_goldens() -> list[str]:
    """Return what differs from the goldens."""
    sources = [*golden.GOLDEN, *((s, t) for version, s, t in golden.SINCE if sys.version_info >= version)]
    bad = [f"golden: {source!r}" for source, text in sources if checked(ast.parse(source).body) != text]
    if hashlib.sha256(checked(ast.parse(golden.CORPUS).body).encode()).hexdigest() != golden.DIGEST:
        bad.append("golden: all of the grammar")
    return bad


def of_cases() -> str:
    """Return a digest of the texts of all functions of the cases."""
    texts = []
    with tempfile.TemporaryDirectory() as place:
        sys.path.insert(0, place)
        for number, (source, _) in enumerate(cases.RUNS.values()):
            (pathlib.Path(place) / f"case{number}.py").write_text(source)
            importlib.invalidate_caches()
            texts.append(identify(importlib.import_module(f"case{number}").f).text)
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def of_later_cases() -> list[str]:
    """Return which of the cases that this version reads do not do what the function does."""
    bad = []
    with tempfile.TemporaryDirectory() as place:
        sys.path.insert(0, place)
        for number, (name, (version, source, arguments)) in enumerate(cases.SINCE.items()):
            if sys.version_info < version:
                continue
            (pathlib.Path(place) / f"later{number}.py").write_text(source)
            importlib.invalidate_caches()
            function = importlib.import_module(f"later{number}").f
            try:
                code = identify(function)
                loaded = load(code.text, code.lines)
                if loaded(*arguments) != function(*arguments) or identify(loaded).text != code.text:
                    bad.append(f"{name}: another result, or another text when it is loaded")
            except Exception as error:
                bad.append(f"{name}: {error!r}")
    return bad


def main(library: str, every: str = "1") -> None:
    """Print what was found."""
    warnings.simplefilter("ignore")
    number, bad, digest = of_library(pathlib.Path(library), int(every))
    bad += of_goldens()
    bad += of_later_cases()
    if (found := of_cases()) != cases.DIGEST:
        bad.append(f"the texts of the cases: {found}")
    version = ".".join(map(str, sys.version_info[:3]))
    print(json.dumps({"python": version, "files": number, "bad": bad, "digest": digest}))


if __name__ == "__main__":
    main(*sys.argv[1:])
