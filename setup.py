"""The packages are found. That of the commands lies in `cli/` and is installed as `seamless_cli`."""

from setuptools import find_packages, setup

FOUND = find_packages(include=["hashserver*", "seamless_dask*", "cli*"])

setup(packages=[f"seamless_{name}" if name.partition(".")[0] == "cli" else name for name in FOUND])
