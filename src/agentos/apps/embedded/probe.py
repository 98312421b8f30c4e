"""Readiness is asked of the service itself: a query, a page, a connection. No answer in time is "not ready"."""

from __future__ import annotations

import asyncio
from contextlib import closing

_PATIENCE = 2.0  # seconds for one answer on loopback; a slower service is not ready


async def http(port: int, path: str) -> bool:
    """Whether GET on that loopback port answers 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(writer):
                writer.write(request)
                status = (await reader.readline()).split()
    except (OSError, TimeoutError, ValueError):
        return False
    return len(status) > 1 and status[1] == b"200"


async def tcp(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except (OSError, TimeoutError):
        return False
    return True


async def postgres(url: str) -> bool:
    """Whether that PostgreSQL answers a query."""
    import asyncpg  # the command line starts without it

    try:
        async with asyncio.timeout(_PATIENCE):
            connection = await asyncpg.connect(url)
            try:
                return bool(await connection.fetchval("SELECT true"))
            finally:
                connection.terminate()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
