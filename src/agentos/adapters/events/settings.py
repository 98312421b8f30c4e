"""Settings of the buses that events come over."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from agentos.kernel.settings import Section


class BusSettings(Section):
    """A bus whose events fire triggers. Its consumers share the work by their group."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_EVENTS_", frozen=True, extra="ignore", populate_by_name=True)

    url: str = Field(
        "",
        pattern=r"^((nats|kafka)://[^\s]+)?$",
        description="nats://HOST:PORT or kafka://HOST:PORT. Empty: events come over HTTP only.",
    )
    organization: str = Field("main", description="Organization whose triggers the bus's events fire.")
    topic: str = Field("agentos.events", description="Subject in NATS, topic in Kafka.")
    stream: str = Field("agentos", description="JetStream's stream that holds the subject; it has to be there.")
    group: str = Field("agentos", description="Durable consumer in NATS, consumer group in Kafka.")
