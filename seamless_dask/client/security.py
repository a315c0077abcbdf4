"""From the files that open a daskserver to what Dask calls the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from distributed import Security


class TlsFiles(Protocol):
    """A certificate and its authority; None for TLS that is switched off."""

    @property
    def ca_file(self) -> str | None:
        """The authority's certificate."""

    @property
    def cert_file(self) -> str | None:
        """The one that scheduler, workers and clients share."""

    @property
    def key_file(self) -> str | None:
        """Its key."""


def security_of(files: TlsFiles) -> Security | None:
    """Return TLS on all connections of Dask, with a certificate on both sides."""
    if files.ca_file is None:
        return None
    from distributed import Security

    names = {
        f"tls_{role}_{part}": getattr(files, f"{part}_file")
        for role in ("client", "scheduler", "worker")
        for part in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=files.ca_file, **names)
