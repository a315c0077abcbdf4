"""The commands that stand on the pages about clusters."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "clusters.md").read_text()
OWN_CLUSTER = (DOCS / "own-cluster.md").read_text()


def block(heading: str, host: str, page: str = PAGE) -> str:
    """The commands for a host in a section of the page."""
    section = re.split(r"^##+ ", page.partition(f"# {heading}\n")[2], flags=re.MULTILINE)[0]
    return "\n".join(re.findall(rf"^```sh\n# on the {host}\n(.*?)^```", section, re.MULTILINE | re.DOTALL))


def script(name: str, page: str) -> str:
    """The Python file of that name on the page."""
    [found] = re.findall(rf"^```python\n# {re.escape(name)}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(found)
