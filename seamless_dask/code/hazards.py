"""What code does that its identity cannot see: it is told with file and line."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_CLOCK = "it reads the clock: a result that is found again has the time of its first run"
_RANDOM = "it draws random numbers that nothing seeds: pass a seed, or a generator made from one"
_ENVIRONMENT = "it reads the environment, which does not count: pass what it reads as an argument"
_FILE = "it reads a file that does not count: pass it as an argument, File({})"
_BY_TEXT = "it looks names up by text: what it finds does not count"
_SUBCLASSES = (
    "it asks for the subclasses of a class: those that nothing names do not count, and are not there"
)
GLOBAL = "it assigns to {}, outside itself: a result that is found again leaves it as it was"
OWN_FILE = "it reads __file__: what lies beside that file does not count"

_READS = {
    "time.time": _CLOCK,
    "time.time_ns": _CLOCK,
    "datetime.datetime.now": _CLOCK,
    "datetime.datetime.utcnow": _CLOCK,
    "datetime.datetime.today": _CLOCK,
    "datetime.date.today": _CLOCK,
    "pandas.Timestamp.now": _CLOCK,
    "pandas.Timestamp.today": _CLOCK,
    "os.environ": _ENVIRONMENT,
    "os.environb": _ENVIRONMENT,
    "os.getenv": _ENVIRONMENT,
    "os.getcwd": _ENVIRONMENT,
    "os.listdir": _ENVIRONMENT.replace("environment", "file system"),
    "os.walk": _ENVIRONMENT.replace("environment", "file system"),
    "os.scandir": _ENVIRONMENT.replace("environment", "file system"),
    "glob.glob": _ENVIRONMENT.replace("environment", "file system"),
    "sys.argv": _ENVIRONMENT.replace("environment", "command line"),
    "platform.node": _ENVIRONMENT,
    "socket.gethostname": _ENVIRONMENT,
    "getpass.getuser": _ENVIRONMENT,
    "os.urandom": _RANDOM,
    "uuid.uuid1": _RANDOM,
    "uuid.uuid4": _RANDOM,
    "globals": _BY_TEXT,
    "locals": _BY_TEXT,
    "vars": _BY_TEXT,
    "eval": _BY_TEXT,
    "exec": _BY_TEXT,
    "__import__": _BY_TEXT,
    "importlib.import_module": _BY_TEXT,
    "sys.modules": _BY_TEXT,
    "builtins.eval": _BY_TEXT,
    "builtins.exec": _BY_TEXT,
}
_CLOCKS_WITHOUT_ARGUMENTS = ("time.localtime", "time.gmtime", "time.ctime", "time.strftime")
_SEEDED = {
    "random": {"Random", "seed", "setstate", "getstate"},
    "numpy.random": {
        "default_rng",
        "Generator",
        "RandomState",
        "SeedSequence",
        "seed",
        "PCG64",
        "PCG64DXSM",
        "MT19937",
        "Philox",
        "SFC64",
        "BitGenerator",
    },
    "secrets": set(),
}
_TORCH = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"}
_WITH_STATE = {"sklearn.model_selection.train_test_split", "sklearn.utils.shuffle", "sklearn.utils.resample"}
"""They take the numbers of NumPy's global generator unless they are told another state."""
_GENERATORS = ("random.Random", "numpy.random.default_rng", "numpy.random.RandomState")
_READERS = ("read_", "load", "fromfile", "genfromtxt", "open_", "imread", "memmap", "scan_")


def hazard(dotted: str, node: ast.expr, parents: dict[int, ast.AST], local: set[str]) -> str:
    """Return what is to be said about the use of a library's object, nothing for most.

    Parameters
    ----------
    dotted
        Its name with its module.
    node
        The place where it is used.
    parents
        From nodes of the tree to what they stand in.
    local
        Names of the function's own: a path that they make was given as an argument.
    """
    above = parents.get(id(node))
    call = above if isinstance(above, ast.Call) and above.func is node else None
    if dotted == "vars" and call is not None and call.args:
        return ""
    if dotted in _READS:
        return _READS[dotted]
    module, _, name = dotted.rpartition(".")
    if (module in _SEEDED and name not in _SEEDED[module]) or (module == "torch" and name in _TORCH):
        return _RANDOM
    if call is None:
        return ""
    if dotted in _WITH_STATE and not any(each.arg in ("random_state", None) for each in call.keywords):
        return _RANDOM
    if dotted in _CLOCKS_WITHOUT_ARGUMENTS and len(call.args) == (dotted == "time.strftime"):
        return _CLOCK
    if dotted in _GENERATORS and not call.args and not call.keywords:
        return _RANDOM
    if module.startswith("seamless_dask") and name in ("File", "Directory"):
        return _reading(call, local) if _is_elsewhere(call) else ""  # what a run has written is its own
    if dotted in ("open", "io.open", "builtins.open", "os.open") or (module and name.startswith(_READERS)):
        return _reading(call, local)
    return ""


def method_hazards(tree: ast.AST, local: set[str]) -> Iterator[tuple[ast.AST, str]]:
    """Yield what methods do: reads of files, such as ``Path("data.csv").read_text()``, and subclasses."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Call(args=[_, *_]) as made, attr="read_text" | "read_bytes" | "open"
                )
            ):
                if message := _reading(made, local):
                    yield node, message
            case ast.Attribute(attr="__subclasses__"):
                yield node, _SUBCLASSES


def _is_elsewhere(call: ast.Call) -> bool:
    path = call.args[0] if call.args else None
    return isinstance(path, ast.Constant) and str(path.value).startswith(("/", "~"))


def _reading(call: ast.Call, local: set[str]) -> str:
    """Return a message for a file whose name was not given as an argument."""
    if not call.args or (len(call.args) > 1 and _writes(call.args[1])):
        return ""
    path = call.args[0]
    if isinstance(path, ast.Constant):
        return _FILE.format(repr(path.value)) if isinstance(path.value, (str, bytes)) else ""
    names = {each.id for each in ast.walk(path) if isinstance(each, ast.Name)}
    text = any(isinstance(each, ast.Constant) and isinstance(each.value, str) for each in ast.walk(path))
    if names & local or not (names or text):
        return ""
    return _FILE.format("…")


def _writes(mode: ast.expr) -> bool:
    return (
        isinstance(mode, ast.Constant) and isinstance(mode.value, str) and mode.value[:1] in ("w", "a", "x")
    )


READS_DOCS = {"__doc__", "getdoc", "docopt"}
READS_HINTS = {"__annotations__", "get_type_hints", "signature", "get_annotations", "getfullargspec"}


def words(tree: ast.AST) -> set[str]:
    """Return all names and attributes that stand in a tree."""
    found = {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
    return found | {each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
