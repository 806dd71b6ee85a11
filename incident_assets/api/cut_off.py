"""Cutting requests off that outlive their time, which a read timeout does not do.

A read timeout starts anew with every byte. When a request may begin, and what its answer means, is
decided elsewhere.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Stop:
    """Ends what a session is doing, for good: its requests, and its waits between them."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._going: set[CutOff] = set()
        self._lock = threading.Lock()

    def set(self) -> None:
        """Cut off the requests that are going on, and end all waits."""
        with self._lock:
            self.event.set()
            for cut_off in self._going:
                cut_off.reach()

    @contextmanager
    def reaching(self, cut_off: "CutOff") -> Iterator[None]:
        """Cut this one off, too, if it comes to that while the block runs."""
        with self._lock:
            self._going.add(cut_off)
            if self.event.is_set():
                cut_off.reach()
        try:
            yield
        finally:
            with self._lock:
                self._going.discard(cut_off)


class CutOff:
    """Ends the requests of this thread that outlive it: their sockets are shut down."""

    _of_thread = threading.local()

    def __init__(self) -> None:
        self.reached = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def after(cls, seconds: float) -> Iterator["CutOff"]:
        """Cut off what this thread requests in the block after so many seconds."""
        cut_off = cls()
        timer = threading.Timer(seconds, cut_off.reach)
        timer.daemon = True
        cls._of_thread.current = cut_off
        timer.start()
        try:
            yield cut_off
        finally:
            timer.cancel()
            cls._of_thread.current = None

    @classmethod
    def watch(cls, connected: socket.socket | None) -> None:
        """Note the socket that this thread is about to use."""
        cut_off = getattr(cls._of_thread, "current", None)
        if cut_off is None or connected is None:
            return
        with cut_off._lock:
            cut_off._socket = connected
            if cut_off.reached:
                _shut_down(connected)

    def reach(self) -> None:
        """Cut off what is requested now."""
        with self._lock:
            self.reached = True
            if self._socket is not None:
                _shut_down(self._socket)


def _shut_down(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class _Watched:
    sock: socket.socket | None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        CutOff.watch(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        CutOff.watch(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]


class _HTTPConnection(_Watched, HTTPConnection):
    pass


class _HTTPSConnection(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


def watch_connections(manager: Any) -> None:
    """Let a pool manager of urllib3 open connections that can be cut off."""
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
