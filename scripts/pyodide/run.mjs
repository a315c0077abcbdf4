// node run.mjs PYODIDE REPOSITORY LIBRARY SCRIPT ARGUMENT…  -- a script of the repository on CPython in WebAssembly.
import path from "path";

const [pyodide, repository, library, script, ...rest] = process.argv.slice(2);
const { loadPyodide } = await import(path.resolve(pyodide, "pyodide.mjs"));
const python = await loadPyodide({ indexURL: path.resolve(pyodide) + "/" });
for (const [place, root] of [["/repository", repository], ["/library", library]]) {
    python.FS.mkdir(place);
    python.FS.mount(python.FS.filesystems.NODEFS, { root: path.resolve(root) }, place);
}
python.globals.set("argv", python.toPy([`/repository/${script}`, "/library", ...rest]));
try {
    python.runPython(`
import os, runpy, sys
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.dirname(argv[0]), "/repository"]
sys.argv = list(argv)
runpy.run_path(argv[0], run_name="__main__")
`);
} catch (error) {
    console.error(error.message);
    process.exit(1);
}
