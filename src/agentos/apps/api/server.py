"""The HTTP server of the API: uvicorn, which closes the door on headers that do not come or do not end."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEADER_BYTES: Final = 64 * 1024  # of a request's line and headers together; browsers and proxies stay below 16 KiB
HEADER_SECONDS: Final = 10.0  # from the first byte, or from the connection, to the end of the headers


def config(app: ASGIApp, *, header_seconds: float = HEADER_SECONDS, **options: Any) -> uvicorn.Config:
    """How the API is served; ``options`` are uvicorn's own."""

    class Patient(_Patient):
        seconds = header_seconds

    return uvicorn.Config(
        app,
        http=Patient,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
        **options,
    )


class _Patient(HttpToolsProtocol):
    """Uvicorn waits for headers as long as they take and keeps as many as come, from anybody: this does not."""

    seconds: float
    _late: asyncio.TimerHandle | None = None
    _header_bytes: int = 0
    _in_body: bool = False  # headers came to their end, and the request has not

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._late is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_headers()  # or the rest of a body that was answered before it came
        end = data.find(b"\r\n\r\n")
        if not self._in_body and end >= 0 and self._header_bytes + end > MOST_HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        self._header_bytes += len(data)
        super().data_received(data)
        if self._late is not None and not self._in_body and self._header_bytes > MOST_HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._header_bytes = 0
        super().on_message_complete()

    def _expect_headers(self) -> None:
        self._header_bytes = 0
        self._late = self.loop.call_later(self.seconds, self._refuse, b"408 Request Timeout")

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
