"""What is found in a text, what is left alone, and that looking ends."""

from __future__ import annotations

import pytest
from benchmarks.control.corpus import Corpus, Document
from hypothesis import given, settings
from hypothesis import strategies as some

from agentos.control.privacy.finder import MOST_CHARACTERS, find, suspect
from agentos.control.privacy.model import Kind, Rules, TextTooLong

EVERY = Rules(kinds=frozenset(Kind))


def kinds(text: str, rules: Rules | None = None, named: str = "") -> list[tuple[str, str]]:
    return [(one.kind.name, text[one.start : one.end]) for one in find(text, rules or Rules(), named=named)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("paid with 4111 1111 1111 1111 today", "CARD", "4111 1111 1111 1111"),
        ("amex 3782-822463-10005.", "CARD", "3782-822463-10005"),
        ("ssn: 123-45-6789", "NATIONAL_ID", "123-45-6789"),
        ("my codice fiscale is RSSMRA85T10A562S", "NATIONAL_ID", "RSSMRA85T10A562S"),
        ("DNI 12345678Z", "NATIONAL_ID", "12345678Z"),
        ("hetu 131052-308T", "NATIONAL_ID", "131052-308T"),
        ("PESEL: 44051401458", "NATIONAL_ID", "44051401458"),
        ("DE89 3704 0044 0532 0130 00 please", "BANK_ACCOUNT", "DE89 3704 0044 0532 0130 00"),
        ("account number: 000123456789", "BANK_ACCOUNT", "000123456789"),
        ("key AKIAIOSFODNN7EXAMPLE leaked", "KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("API_KEY=9f86d081884c7d659a2feaa0c55ad015", "KEY", "9f86d081884c7d659a2feaa0c55ad015"),
        ("Authorization: Bearer abcdef0123456789abcd", "KEY", "abcdef0123456789abcd"),
        ("postgres://app:s3cr3t!@db/x", "PASSWORD", "s3cr3t!"),
        ('{"password": "correct horse"}', "PASSWORD", "correct horse"),
        ("DB_PASSWORD=hunter", "PASSWORD", "hunter"),
        ("the password is Tr0ub4dor&3", "PASSWORD", "Tr0ub4dor"),
        ("write to ann.lee+x@mail.example.co.uk.", "EMAIL", "ann.lee+x@mail.example.co.uk"),
        ("müller@exämple.de", "EMAIL", "müller@exämple.de"),
        ("ring +49 30 901820 now", "PHONE", "+49 30 901820"),
        ("phone: 555-0100-22", "PHONE", "555-0100-22"),
        ("(202) 456-1111", "PHONE", "(202) 456-1111"),
        ("id,name,card\n7,x,4111111111111111\n", "CARD", "4111111111111111"),
        ("user,password\nann,swordfish\n", "PASSWORD", "swordfish"),
    ],
)
def test_what_people_own_is_found_whole(text: str, kind: str, value: str) -> None:
    assert (kind, value) in [(found, shown[: len(value)]) for found, shown in kinds(text)]


@pytest.mark.parametrize(
    "text",
    [
        "da39a3ee5e6b4b0d3255bfef95601890afd80709 and 5b4d4d3",
        "550e8400-e29b-41d4-a716-446655440000",
        "00000000-1111-2222-3333-444444444444",
        "run_01jd7zq3kfe5qaxq4w5v3wq2p8 of dep_01jd7zq3kge5qaxq4w5v3wq2p8",
        "2026-11-21T10:01:00.123456Z, 21.11.2026 10:01, 11/21/2026",
        "version 1.2.3.4, 2026.11.1, v10.0.19045.3803",
        "ISBN 978-3-16-148410-0 costs 1,234,567.89 EUR",
        "order 4111111111111111",
        "ts=1763719260123 1763719260.123456",
        "POLICY_DENIED_BY_TIER, SEV-1, INC-0001, R2.14",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "@app.get('/x') git@github.com:a/b.git logo@2x.png pkg@1.2.3",
        "def check(password: str, token: Token) -> None: ...",
        "password=os.environ['X'], secret=secret://stripe, key=keys[name]",
        "Reset your password: it is required",
        "next_token=None, tokens: 123, WHERE password = :password",
        'password: "${DB_PASSWORD}", pwd=<your password>, passwd: ********',
        "10.0.0.1 and 2001:db8::1",
    ],
)
def test_ordinary_identifiers_stay_untouched(text: str) -> None:
    assert kinds(text) == []


def test_class_c_is_found_only_when_it_is_asked_for() -> None:
    text = "user_id=ann7 from 192.168.100.20 at 52.520008, 13.404954, version 1.2.3.4"
    assert kinds(text) == []
    found = kinds(text, EVERY)
    assert found == [("USER_ID", "ann7"), ("IP", "192.168.100.20"), ("LOCATION", "52.520008, 13.404954")]


def test_the_name_of_a_field_is_a_label() -> None:
    assert kinds("123456782") == []
    assert kinds("123456782", named="customerBsn") == [("NATIONAL_ID", "123456782")]
    assert kinds("5550100", named="phone_number") == [("PHONE", "5550100")]


def test_a_quick_look_never_overlooks_what_the_long_one_finds() -> None:
    corpus = Corpus(99)
    for document in corpus.positives(3):
        if any(one.kind.value in ("name",) for one in find(document.text, Rules())):
            continue
        assert suspect(document.text) or not find(document.text + " " * 5000, Rules()), document.source


def survivors(document: Document, rules: Rules) -> bool:
    found = find(document.text, rules)
    return not all(any(f.start <= p.start and p.end <= f.end for f in found) for p in document.planted)


def test_nearly_every_value_of_class_a_is_found_in_texts_that_others_made() -> None:
    corpus = list(Corpus(4711).positives(4))
    wanted = [one for one in corpus if one.planted[0].kind not in ("email", "phone")]
    missed = [one.source for one in wanted if survivors(one, Rules())]
    assert len(missed) <= len(wanted) * 0.02, missed


@given(some.text(max_size=400))
def test_findings_lie_in_the_text_in_order_and_apart(text: str) -> None:
    end = 0
    for one in find(text, EVERY):
        assert end <= one.start < one.end <= len(text)
        end = one.end


HOSTILE = {
    "digits": "1",
    "spaced digits": "1 ",
    "cards": "4111 1111 1111 1112 ",
    "phones": "030 1234 ",
    "ats": "a@",
    "dots": "a.",
    "domains": "a@b.b-",
    "labels": "password ",
    "open quotes": "password: '",
    "key words": "secret_access_key_",
    "sentences": "password a b c d e f is ",
    "capitals": "A1",
    "accounts": "DE89 ",
    "addresses": "://a:",
    "private keys": "-----BEGIN PRIVATE KEY-----",
    "tokens": "eyJaaaaaaaa.",
    "colons": ":",
    "colons in hex": "ab:",
    "coordinates": "1.11111,",
    "markers": "[REDACTED: ",
    "plus": "+1 ",
    "parentheses": "(",
    "letters that grow": "İ",
    "lines": "ssn\n",
}


@pytest.mark.timeout(60)  # what is not linear takes hours over a quarter of a million characters
@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_looked_through_to_its_end(piece: str) -> None:
    text = piece * (250_000 // len(piece)) + " ann@example.com"
    assert find(text, EVERY)[-1].end > 250_000 - 20


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(TextTooLong):
        find("a" * (MOST_CHARACTERS + 1), Rules())


@settings(max_examples=50)
@given(some.text(alphabet="0123456789 -+()./@:=ab\n\"'", max_size=300))
def test_texts_of_what_numbers_are_made_of_break_nothing(text: str) -> None:
    find(text, EVERY)
