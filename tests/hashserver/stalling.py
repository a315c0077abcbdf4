"""A network that goes silent: connections stay open, and nothing passes any more."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Stalling:
    """Forwards connections to a port until it goes silent.

    Parameters
    ----------
    port
        Of this host.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._silent = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.up: int | None = None
        """How many bytes still go to the server before nothing passes, in either direction."""
        self.down: int | None = None
        """And how many come from there."""
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def hush(self) -> None:
        """Let nothing pass from now on."""
        self._silent.set()

    @property
    def is_silent(self) -> bool:
        """Whether nothing passes."""
        return self._silent.is_set()

    def speak(self) -> None:
        """Let new connections pass again, without end."""
        self.up = self.down = None
        self._silent.clear()

    def cut(self) -> None:
        """Close what is open."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(30)
        for connection in (self._listener, *self._open):
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                if self._silent.is_set():
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open.append(server)
                for source, sink, way in ((client, server, "up"), (server, client, "down")):
                    thread = threading.Thread(target=self._forward, args=(source, sink, way))
                    self._threads.append(thread)
                    thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self._passes(way, len(data)):
                    sink.sendall(data)
                    continue
                self._ended.wait()  # what was open when it became silent stays so
                return
        if self._silent.is_set():
            self._ended.wait()  # nor does an end pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _passes(self, way: str, count: int) -> bool:
        with self._lock:
            left = getattr(self, way)
            if left is not None:
                setattr(self, way, left - count)
                if left < count:
                    self._silent.set()
            return not self._silent.is_set()
