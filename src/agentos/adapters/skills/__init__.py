"""The skills that come with the platform: one module per skill and version.

Files are touched only under the declared roots (``confinement``), the network only at public addresses or at hosts that
the operator allows (``targets``), and by http_get and http_request only at hosts that are listed (``fetching``).
"""

from typing import Final

BUILT_IN: Final[tuple[str, ...]] = (
    "agentos.adapters.skills.file_write",
    "agentos.adapters.skills.git_log",
    "agentos.adapters.skills.http_get",
    "agentos.adapters.skills.http_request",
    "agentos.adapters.skills.json_transform",
    "agentos.adapters.skills.postgres_query",
    "agentos.adapters.skills.read_file",
    "agentos.adapters.skills.webhook_send",
)
