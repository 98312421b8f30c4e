"""Connections only to where an agent may connect: public addresses, and hosts that the operator allows.

A name is resolved once; every address it has must be allowed; the connection goes to those very addresses. So a name
that changes its answer between the check and the connection (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from agentos.kernel.errors import Forbidden, Invalid, Unavailable

# Well-known prefix under which a NAT64 gateway reaches any IPv4 address, private ones included (RFC 6052).
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TargetMalformed(Invalid):
    """An address that is not an http(s) URL without credentials."""

    code = "target_malformed"


class TargetForbidden(Forbidden):
    """An address inside the network that no agent may reach unless the operator allows its host."""

    code = "target_forbidden"


class TargetUnresolved(Unavailable):
    """A host name has no address now."""

    code = "target_unresolved"


def target(text: str) -> URL:
    """The URL, when it is one that may be called at all. Raises TargetMalformed (Invalid)."""
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise TargetMalformed("the address is not a URL") from None
    if url.scheme not in ("http", "https") or not url.raw_host or not port:
        raise TargetMalformed("the address is not an http or https URL")
    if url.user is not None or url.password is not None:
        raise TargetMalformed("the address holds credentials, which would be recorded", then="Name a secret instead.")
    return url.with_fragment(None)


async def connector(url: URL, allowed: Sequence[str]) -> aiohttp.TCPConnector:
    """A connector that reaches this URL's host and nothing else.

    Raises TargetForbidden (Forbidden) or TargetUnresolved (Unavailable).
    """
    host, port = (url.raw_host or "").lower(), url.port or 0
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise TargetUnresolved(
            f"the host '{host}' has no address", then="Check its name, or try again later."
        ) from None
    if not allowed_host(url, allowed):
        for *_, place in found:
            if not public(ipaddress.ip_address(str(place[0]).partition("%")[0])):
                raise TargetForbidden(
                    f"'{host}' is not a public address",
                    then=f"An operator may allow it: AGENTOS_WEBHOOK_ALLOW={_bracketed(host)}:{port}",
                )
    return aiohttp.TCPConnector(resolver=_Fixed(host, found), use_dns_cache=False, force_close=True)


def allowed_host(url: URL, allowed: Sequence[str]) -> bool:
    """Whether the operator allows the URL's host, as a whole or at this port."""
    host = (url.raw_host or "").lower()
    return bool({host, _bracketed(host), f"{_bracketed(host)}:{url.port}"}.intersection(allowed))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def public(address: Address) -> bool:
    """Whether an address belongs to the public internet, also when it wraps an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in _NAT64:
            wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped and not public(wrapped):
            return False
        if address.ipv4_mapped or address in _NAT64:
            return True
    return address.is_global and not address.is_multicast and not address.is_reserved


class _Fixed(AbstractResolver):
    """Answers with the addresses that were checked, and for no other name."""

    def __init__(self, host: str, found: Sequence[tuple[int, int, int, str, tuple[object, ...]]]) -> None:
        self._host, self._found = host, found

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host.lower() != self._host:
            raise OSError(f"'{host}' was not checked")
        return [
            ResolveResult(
                hostname=host,
                host=str(place[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, place in self._found
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        """Nothing to give back."""
