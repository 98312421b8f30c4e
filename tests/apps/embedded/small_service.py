"""A stand-in for the API and for workers: answers every request with 200 and ends on SIGTERM. Starts in 30 ms."""

import os
import signal
import socket
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
print("serving", os.environ["AGENTOS_SERVICE"], flush=True)  # noqa: T201 - what its log shows
if os.environ["AGENTOS_SERVICE"] in os.environ.get("TEST_BROKEN", "").split():
    print("broken on purpose", flush=True)  # noqa: T201 - what its log shows
    sys.exit(3)
with socket.create_server(("127.0.0.1", int(os.environ.get("AGENTOS_PORT", os.environ["AGENTOS_METRICS_PORT"])))) as s:
    while True:
        connection, _ = s.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
