"""A network that goes black: a proxy that keeps all connections open, and no longer forwards anything.

The kernel still acknowledges what is sent, so ``tcp_user_timeout`` does not apply here; everything else is as with a
network that drops all packets.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class BlackNetwork:
    """Forwards connections to a server until it goes black.

    :param black_on: go black when a client sends this.
    """

    def __init__(self, host: str, port: int, black_on: bytes | None = None) -> None:
        self._server = (host, port)
        self._black_on = black_on
        self._forwards = threading.Event()
        self._forwards.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    @property
    def is_black(self) -> bool:
        return not self._forwards.is_set()

    def go_black(self, seconds: float = 30) -> None:
        """Forward nothing until ``seconds`` have passed: whoever waits for ever would otherwise never end the test."""
        self._forwards.clear()
        timer = threading.Timer(seconds, self._forwards.set)
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        self._black_on = None
        self._forwards.set()
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                self._start(self._forward, client, server, True)
                self._start(self._forward, server, client, False)

    def _forward(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if from_client and self._black_on is not None and self._black_on in data:
                    self.go_black()
                self._forwards.wait()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    @staticmethod
    def _start(target: object, *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()  # type: ignore[arg-type]
