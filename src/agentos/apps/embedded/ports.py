"""Ports are chosen once and remembered; one that a stranger took is chosen anew, and that is said."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Container
from pathlib import Path

from agentos.kernel.errors import Conflict, Exhausted


class PortTaken(Conflict):
    """A port that the settings ask for is used by another program."""

    code = "port_taken"


class NoPort(Exhausted):
    """No free port is left on loopback."""

    code = "no_port"


def free(port: int) -> bool:
    """Whether a server could listen on that loopback port now."""
    with socket.socket() as probe:
        # As the services do: connections in TIME_WAIT do not count, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose(avoid: Container[int] = ()) -> int:
    """A free loopback port below those that the kernel gives to outgoing connections.

    From within that range, a client that calls a dead service again and again can be given the service's own port,
    connect to itself and keep the service from coming back.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    low, high = (15_000, lowest) if lowest > 16_000 else (15_000, 65_000)
    for _ in range(500):
        port = random.randrange(low, high)  # noqa: S311 - no secret
        if port not in avoid and free(port):
            return port
    raise NoPort("No free port found on 127.0.0.1", then="Close programs that listen on many ports.")


class Ports:
    """The ports of a home by name. ``held`` are those on which our own live services listen already."""

    def __init__(
        self, remembered: dict[str, int], held: Container[int] = (), say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.remembered = remembered
        self._held = held
        self._say = say

    def take(self, name: str, asked: int = 0) -> int:
        """The port of that name, the same one each time. Raises PortTaken (Conflict) for an asked one only."""
        port = asked or self.remembered.get(name, 0)
        if not port or (port not in self._held and not free(port)):
            if asked:
                raise PortTaken(f"Port {asked} for {name} is in use", then="Set another port, or 0 for a free one.")
            if port:
                self._say(f"port {port} of {name} is used by another program; choosing a new one")
            port = choose(avoid=set(self.remembered.values()))
        self.remembered[name] = port
        return port
