"""A good manifest, and what is told of a bad one."""

from __future__ import annotations

import re

import pytest

from agentos.control.agents import manifest
from agentos.control.agents.model import ManifestInvalid

GOOD = """\
apiVersion: agentos/v1
kind: Agent
metadata:
  name: writer
  category: docs
  owner: team
spec:
  instructions: Write.
  model: {provider: stub, script: [{text: done}]}
  tier: L2
"""


def told(text: str | bytes) -> list[str]:
    """Every problem of a manifest, as the command line prints it."""
    with pytest.raises(ManifestInvalid) as caught:
        manifest.read_text(text, "a.yaml")
    lines = caught.value.what.splitlines()
    found = [line.strip() for line in (lines[1:] if len(lines) > 1 else lines)]
    assert len(found) == len(caught.value.extra["problems"])
    for line in found:
        assert re.match(r"a\.yaml:\d+:\d+: .+ — .+", line), line
    return found


def with_lines(**replaced: str) -> str:
    """The good manifest with some of its lines replaced, by their field."""
    lines = []
    for line in GOOD.splitlines():
        field = line.strip().split(":")[0]
        lines.append(replaced.get(field, line))
    return "\n".join(lines) + "\n"
