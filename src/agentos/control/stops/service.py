"""What withholds action now."""

from __future__ import annotations

from agentos.control.stops import store
from agentos.control.stops.model import InForce, Subject
from agentos.kernel.unit_of_work import UnitOfWork


async def in_force(work: UnitOfWork, subject: Subject) -> InForce:
    """The stops that concern a deployment now. Read the epochs first: see kernel/epochs.py."""
    return InForce.about(subject, await store.in_force(work))
