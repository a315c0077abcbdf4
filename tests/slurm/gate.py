"""Commands that a test holds up in the middle."""

from __future__ import annotations

import subprocess

from .lab.host import wait_until
from .service import Service


class Gate:
    """Commands that begin, and go on when they may.

    Each has written half of its result when it begins to wait.
    """

    def __init__(self, service: Service, name: str) -> None:
        self.service, self.name = service, name
        self.directory = service.lab.common / name
        self.directory.mkdir()
        (service.project / f"{name}.txt").write_text(f"{name}\nb\na\n")
        self.commands: list[subprocess.Popen[str]] = []

    def words(self, result: str, *options: str, size: int = 0) -> list[str]:
        """The command line that makes a result, with a file of so many bytes."""
        code = (
            f"mkdir {result}; sort {self.name}.txt > {result}/first;"
            f" yes {self.name} | head -c {size} > {result}/large;"
            ' echo "$SLURM_JOB_ID $HOSTNAME $$" >> $GATE/begun;'
            " until test -e $GATE/open; do sleep 0.05; done;"
            f" wc -l < {self.name}.txt > {result}/second; touch $GATE/over"
        )
        given = ["--metavar", f"GATE={self.directory}", "--capture", result, *options]
        return ["seamless-run", "-g2", *given, code]

    def begin(self, result: str, *options: str, size: int = 0) -> subprocess.Popen[str]:
        """Start one on the laptop."""
        self.commands.append(self.service.begin(*self.words(result, *options, size=size)))
        return self.commands[-1]

    def begun(self, number: int = 1) -> list[str]:
        """Wait until commands have begun so many times; job, host and process of the last one."""
        path = self.directory / "begun"

        def lines() -> list[str]:
            return path.read_text().splitlines() if path.exists() else []

        wait_until(lambda: len(lines()) >= number, f"{number} beginnings of {self.name}")
        assert len(lines()) == number
        return lines()[-1].split()

    def open(self) -> None:
        """Let commands go on, and those to come."""
        (self.directory / "open").touch()

    def shut(self) -> None:
        """Let those wait that come now."""
        (self.directory / "open").unlink()

    def over(self) -> None:
        """Wait for the end of a command."""
        wait_until((self.directory / "over").exists, f"the end of {self.name}")

    def large(self, size: int) -> bytes:
        """What the large file must be."""
        line = f"{self.name}\n".encode()
        return (line * (size // len(line) + 1))[:size]

    def check(self, result: str, size: int = 0) -> None:
        """Every byte is there."""
        directory = self.service.project / result
        names = {path.name for path in directory.iterdir()} - {".CHECKSUM", ".INDEX"}
        assert names == {"first", "large", "second"}
        assert (directory / "first").read_text() == "".join(sorted([f"{self.name}\n", "b\n", "a\n"]))
        assert (directory / "large").read_bytes() == self.large(size)
        assert (directory / "second").read_text() == "3\n"

    def close(self) -> None:
        """See the end of all."""
        self.open()
        for process in self.commands:
            process.communicate(timeout=60)
            self.service.laptop.started.remove(process)


def end(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for the end of a command; what it has said."""
    _, said = process.communicate(timeout=90)
    assert process.returncode == status, said
    return said
