"""The commands that stand on the page about clusters."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()


def block(heading: str, host: str) -> str:
    """The commands for a host in a section of the page."""
    section = re.split(r"^##+ ", PAGE.partition(f"# {heading}\n")[2], flags=re.MULTILINE)[0]
    return "\n".join(re.findall(rf"^```sh\n# on the {host}\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
