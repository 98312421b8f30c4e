from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path


async def test_a_worker_whose_port_is_taken_says_so_and_shows_no_stack(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    env = {
        **os.environ,
        "DATABASE_URL": "postgresql://nobody:none@127.0.0.1:1/none",
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "AGENTOS_METRICS_PORT": str(port),
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentos.apps.worker", env=env, cwd=tmp_path, stdout=-1, stderr=-1
    )
    said, wrong = await asyncio.wait_for(running.communicate(), 60)
    taken.close()
    assert running.returncode == 2
    assert f"127.0.0.1:{port}" in (told := (said + wrong).decode())
    assert "Traceback" not in told
