"""What approvals need from outside: to know what is masked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agentos.control.approvals.model import Approval
from agentos.kernel.unit_of_work import UnitOfWork

# Whether an approval's arguments hold what is masked for those who may not see personal data.
Masked = Callable[[UnitOfWork, Approval], Awaitable[bool]]


async def nothing_masked(_work: UnitOfWork, _asked: Approval) -> bool:
    """Nothing is masked for anybody: what holds where personal data are not looked for."""
    return False
