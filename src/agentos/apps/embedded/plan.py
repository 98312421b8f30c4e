"""What a stack consists of: the wheel's engines unless clusters are given, two jobs, the API and the workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from agentos.apps.embedded import isolation, postgres, probe, process, temporal
from agentos.apps.embedded.home import LEDGER_ANCHORS, LEDGER_KEY, Home, Memory
from agentos.apps.embedded.ports import Ports
from agentos.apps.embedded.service import Given, Job, Plan, Service
from agentos.apps.embedded.settings import EmbeddedSettings
from agentos.kernel.settings import BadSetting, DatabaseSettings, SigningSettings, TemporalSettings


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"agentos.apps.{name}")


@dataclass(frozen=True)
class Programs:
    """The commands of the platform. Tests put small ones in their place."""

    api: tuple[str, ...] = _module("api")
    worker: tuple[str, ...] = _module("worker")
    migrate: tuple[str, ...] = _module("migrate")
    bootstrap: tuple[str, ...] = _module("bootstrap")


def draw(
    home: Home, memory: Memory, ports: Ports, workers: int, settings: EmbeddedSettings, programs: Programs
) -> Plan:
    """The plan for a home with that many workers. Takes ports and notes where the database lies; starts nothing."""
    engines: list[Service] = []
    given: list[Given] = []

    database_url = DatabaseSettings.read().url.get_secret_value()
    if database_url:
        given.append(_given_postgres(database_url))
    else:
        server = _postgres(home, memory, ports, settings)
        memory.database_folder = str(server.isolation.folder)
        database_url = server.url
        engines.append(server.service())

    address = TemporalSettings.read().address
    if address:
        given.append(_given_temporal(address))
    else:
        engine = _temporal(home, memory, ports)
        address = engine.address
        engines.append(engine.service())

    env = {
        "AGENTOS_HOME": str(home.path),
        process.STACK: memory.id,
        "DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": address,
        "AGENTOS_SIGNING_KEY": SigningSettings.read().key or str(home.path / "signing-key.pem"),
        "AGENTOS_LEDGER_KEY": DatabaseSettings.read().ledger_key or str(home.path / LEDGER_KEY),
        "AGENTOS_LEDGER_ANCHORS": os.environ.get("AGENTOS_LEDGER_ANCHORS") or str(home.path / LEDGER_ANCHORS),
        "PYTHONUNBUFFERED": "1",  # a line in the log when it happens, also when the process is killed
        **_compiled(home),
    }
    api = _api(env, ports, settings, programs)
    return Plan(
        engines=tuple(engines),
        given=tuple(given),
        jobs=(
            Job("migrate", programs.migrate, env | {process.SERVICE: "migrate"}, says="migrating the database"),
            Job(
                "bootstrap", programs.bootstrap, env | {process.SERVICE: "bootstrap"}, says="preparing the organization"
            ),
        ),
        platform=(api, *(_worker(number, env, ports, programs) for number in range(1, workers + 1))),
        api=f"http://127.0.0.1:{api.ports['api']}",
    )


def database_url(home: Home, settings: EmbeddedSettings) -> str:
    """Where the embedded database of a home answers when it runs; empty when the home never had one."""
    memory = home.memory()
    if memory is None or "postgres" not in memory.ports:
        return ""
    return _postgres(home, memory, Ports(memory.ports), settings).url


def _compiled(home: Home) -> dict[str, str]:
    """Let services start from compiled modules also where the caller forbids Python to write them beside the sources.

    Importing a worker costs 2.9 s of processor time uncompiled and 1.3 s compiled (five runs of each, interleaved), and
    a killed service must serve again in 3 s. In the home, nothing is written beside the sources, as was asked.
    """
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return {}
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(home.path / "compiled")}


def _postgres(home: Home, memory: Memory, ports: Ports, settings: EmbeddedSettings) -> postgres.Server:
    return postgres.Server(
        isolation=isolation.choose(
            settings.postgres_isolation, home.postgres, memory.id, remembered=memory.database_folder
        ),
        port=ports.take("postgres"),
        superuser_password=memory.superuser_password,
        login_password=memory.login_password,
        log=home.log("postgres"),
        stack=memory.id,
    )


def _temporal(home: Home, memory: Memory, ports: Ports) -> temporal.Server:
    return temporal.Server(
        folder=home.temporal,
        port=ports.take("temporal"),
        http_port=ports.take("temporal_http"),
        metrics_port=ports.take("temporal_metrics"),
        log=home.log("temporal"),
        stack=memory.id,
    )


def _api(env: Mapping[str, str], ports: Ports, settings: EmbeddedSettings, programs: Programs) -> Service:
    port, metrics = ports.take("api", settings.api_port), ports.take("api_metrics")
    return Service(
        name="api",
        command=programs.api,
        ready=partial(probe.http, port, "/health"),
        rank=2,
        env={**env, process.SERVICE: "api", "AGENTOS_PORT": str(port), "AGENTOS_METRICS_PORT": str(metrics)},
        ports={"api": port, "api_metrics": metrics},
    )


def _worker(number: int, env: Mapping[str, str], ports: Ports, programs: Programs) -> Service:
    name = f"worker-{number}"
    port = ports.take(name)
    return Service(
        name=name,
        command=programs.worker,
        ready=partial(probe.http, port, "/metrics"),
        rank=3,
        env={**env, process.SERVICE: name, "AGENTOS_METRICS_PORT": str(port)},
        ports={name: port},
        stop_seconds=15,  # a segment in flight is given up by its heartbeat anyway; this lets short ones end
    )


def _given_postgres(url: str) -> Given:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 5432
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme not in ("postgresql", "postgres"):
        raise BadSetting("DATABASE_URL: not an address", then="Write postgresql://user:password@host:port/name.")
    return Given("postgres", f"{host}:{port}", partial(probe.postgres, url), "DATABASE_URL")


def _given_temporal(address: str) -> Given:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise BadSetting("TEMPORAL_ADDRESS: not an address", then="Write host:port.")
    return Given("temporal", address, partial(probe.tcp, host, int(port)), "TEMPORAL_ADDRESS")
