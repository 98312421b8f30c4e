"""What the platform signs is checked offline, and nothing that was changed passes."""

from __future__ import annotations

import copy
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.kernel.errors import AgentOSError
from agentos.kernel.signing import MEMBER, ForeignKey, NotSigned, SignatureWrong, Signer, SigningKeyMissing, make_key
from agentos.kernel.signing import verify as check

DOCUMENT = {"type": "receipt", "number": 1, "said": {"yes": True}, "who": ["ann", "bob"]}


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    file = tmp_path_factory.mktemp("keys") / "signing-key.pem"
    make_key(file)
    return Signer.load(file)


def test_a_signed_document_is_checked_with_nothing_but_itself(signer: Signer) -> None:
    signed = json.loads(json.dumps(signer.sign(DOCUMENT)))  # as a file holds it
    check(signed)
    check(signed, pinned=signer.public_key)
    assert {name: value for name, value in signed.items() if name != MEMBER} == DOCUMENT


def test_another_spelling_of_the_same_document_is_the_same_document(signer: Signer) -> None:
    signed = signer.sign(DOCUMENT)
    check(json.loads(json.dumps(dict(reversed(list(signed.items()))), indent=4)))


CHANGES: list[tuple[tuple[str, ...], Any]] = [
    (("number",), 2),
    (("said", "yes"), False),
    (("more",), "x"),
    ((MEMBER, "value"), "AAAA"),
    ((MEMBER, "value"), 7),
    ((MEMBER, "key_id"), "sha256:00"),
    ((MEMBER, "public_key"), "no base64!"),
    ((MEMBER, "public_key"), "AAAA"),
]


@pytest.mark.parametrize(("path", "value"), CHANGES)
def test_a_changed_document_is_refused(signer: Signer, path: tuple[str, ...], value: Any) -> None:
    signed = copy.deepcopy(signer.sign(DOCUMENT))
    place: Any = signed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(SignatureWrong):
        check(signed)


@pytest.mark.parametrize("signature", [None, "x", {}, {"algorithm": "none"}])
def test_a_document_without_a_signature_of_ours_is_refused(signature: Any) -> None:
    with pytest.raises(NotSigned):
        check({**DOCUMENT, MEMBER: signature})
    with pytest.raises(NotSigned):
        check(DOCUMENT)


def test_a_document_that_somebody_else_signed_is_refused_by_whoever_pins_the_key(
    signer: Signer, tmp_path: Path
) -> None:
    make_key(tmp_path / "other.pem")
    forged = Signer.load(tmp_path / "other.pem").sign(DOCUMENT)
    check(forged)  # as it was signed; by whom is the pin's question
    with pytest.raises(ForeignKey):
        check(forged, pinned=signer.public_key)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
def test_whatever_is_read_as_a_signature_is_refused_with_a_clear_error(signer: Signer, found: Any) -> None:
    for document in (found, {**DOCUMENT, MEMBER: found}, signer.sign(DOCUMENT) | {MEMBER: {"value": found}}):
        with pytest.raises(AgentOSError) as refused:
            check(document)
        assert refused.value.code in ("not_signed", "signature_wrong")


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    assert make_key(file)
    made = file.read_bytes()
    assert not make_key(file)
    assert file.read_bytes() == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_that_is_missing_open_or_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyMissing, match="no key to sign with"):
        Signer.load("")
    with pytest.raises(SigningKeyMissing, match="cannot be read"):
        Signer.load(tmp_path / "none.pem")
    make_key(tmp_path / "open.pem")
    (tmp_path / "open.pem").chmod(0o644)
    with pytest.raises(SigningKeyMissing, match="open to other users"):
        Signer.load(tmp_path / "open.pem")
    (tmp_path / "text.pem").write_text("hello")
    (tmp_path / "text.pem").chmod(0o600)
    with pytest.raises(SigningKeyMissing, match="no Ed25519 key"):
        Signer.load(tmp_path / "text.pem")
