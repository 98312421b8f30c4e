"""The public key that the platform's receipts and proofs are known by."""

from __future__ import annotations

from fastapi import APIRouter

from agentos.kernel.http import SignerDep
from agentos.kernel.openapi import lets_in

router = APIRouter(prefix="/api/v1", tags=["signing"])


@router.get("/signing-key", openapi_extra=lets_in(503))
async def signing_key(signer: SignerDep) -> dict[str, str]:
    """The public key. Keep it: whoever checks a document pins it, and then needs nobody."""
    return signer.shown()
