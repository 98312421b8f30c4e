"""Keys by the formats that their issuers gave them, and passwords and keys by what stands before them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from agentos.control.privacy.labels import column_names
from agentos.control.privacy.model import Finding, Kind

# Issuers' formats: how a key begins, and its whole form. Sources are the issuers' own documents on their formats.
_FORMATS: Final = (
    ("AKIA|ASIA|ABIA|ACCA", r"[A-Z2-7]{16}"),  # AWS
    ("gh[pousr]_", r"[A-Za-z0-9]{36,255}"),  # GitHub
    ("github_pat_", r"[A-Za-z0-9_]{40,255}"),
    ("gl(?:pat|oas|dt|rt|cbt|ptt|ft|imt|agent|soat)-", r"[A-Za-z0-9_.=-]{16,}"),  # GitLab
    ("xox[abeoprs]-|xapp-", r"[A-Za-z0-9-]{10,}"),  # Slack
    ("[srp]k_(?:live|test)_", r"[A-Za-z0-9]{10,}"),  # Stripe
    ("sk-", r"(?:ant-|proj-|svcacct-|admin-|or-)?[A-Za-z0-9_-]{20,}"),  # model providers
    ("AIza", r"[A-Za-z0-9_-]{35}"),  # Google
    ("GOCSPX-", r"[A-Za-z0-9_-]{20,}"),
    (r"ya29\.", r"[A-Za-z0-9_.-]{20,}"),
    ("npm_", r"[A-Za-z0-9]{36}"),
    ("pypi-AgE", r"[A-Za-z0-9_-]{40,}"),
    (r"SG\.", r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),  # SendGrid
    ("SK", r"[0-9a-f]{32}"),  # Twilio
    ("key-", r"[0-9a-f]{32}"),  # Mailgun
    ("shp(?:at|ca|pa|ss)_", r"[0-9a-fA-F]{32}"),  # Shopify
    ("do[opr]_v1_", r"[0-9a-f]{64}"),  # DigitalOcean
    ("hf_", r"[A-Za-z0-9]{30,}"),  # Hugging Face
    (r"hv[sbr]\.", r"[A-Za-z0-9_-]{20,}"),  # Vault
    ("dapi", r"[0-9a-f]{32}"),  # Databricks
    ("lin_api_", r"[A-Za-z0-9]{32,}"),
    ("PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}"),  # Postman
    (r"dp\.(?:pt|st|ct|sa|scim|audit)\.", r"[A-Za-z0-9._-]{40,}"),  # Doppler
    ("NRAK-", r"[A-Z0-9]{27}"),  # New Relic
    ("gl(?:sa|c)_", r"[A-Za-z0-9_=+/]{32,}"),  # Grafana
    ("whsec_", r"[A-Za-z0-9+/=_-]{20,}"),  # Standard Webhooks
    ("sq0[a-z]{3}-", r"[A-Za-z0-9_-]{22,}"),  # Square
    ("AGE-SECRET-KEY-1", r"[0-9A-Z]{58}"),
    ("eyJ", r"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),  # JSON Web Token
    ("[0-9]{8,10}:AA", r"[A-Za-z0-9_-]{33}"),  # Telegram
    ("aos_", r"[A-Za-z0-9_-]{43}"),  # our own
)
_KEY: Final = re.compile(
    "(?<![A-Za-z0-9_])(?:" + "|".join(f"(?:{begin}){rest}" for begin, rest in _FORMATS) + ")(?![A-Za-z0-9])"
)
# Any of these must be in a text that holds such a key: looking for them is ten times faster than the expression.
_BEGINNINGS: Final = (
    "AKIA", "ASIA", "ABIA", "ACCA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gloas-", "gldt-",
    "glrt-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "xox", "xapp-", "k_live_", "k_test_", "sk-",
    "AIza", "GOCSPX-", "ya29.", "npm_", "pypi-AgE", "SG.", "SK", "key-", "shp", "_v1_", "hf_", "hv", "dapi", "lin_api_",
    "PMAK-", "dp.", "NRAK-", "glsa_", "glc_", "whsec_", "sq0", "AGE-SECRET-KEY-1", "eyJ", ":AA", "aos_",
)  # fmt: skip

_PEM_BEGIN: Final = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(r"-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
SHORTEST_KEY: Final = 15  # characters of a key by its format
MOST_PEM: Final = 20_000  # characters; an RSA key of 16,384 bits has 12,500

# user:password@host
_USERINFO: Final = re.compile(r"://[^\s:/@\"'<>]{0,100}:([^\s/@\"'<>]{1,200})@")

# Where a value is announced. Stems first: a text without any of them is not looked through further.
_STEMS: Final = (
    "passw", "passphrase", "pwd", "secret", "token", "key", "bearer", "basic ", "credential", "passcode", "contrase",
    "senha", "mot de passe", "hasło", "wachtwoord", "пароль", "密码", "パスワード",
)  # fmt: skip
_PASSWORD_WORD: Final = (
    "pass[ _-]?(?:word|phrase|code|wd)s?|passwort|passwd|pwd|contrase[ñn]a|senha|mot de passe|hasło|wachtwoord"  # noqa: S105
    "|пароль|密码|パスワード"
)
_KEY_WORD: Final = (
    "(?:client|app|shared|signing|webhook|consumer|session|oauth|jwt|hmac|master)[ _-]?(?:secret|key)"
    "|(?:api|access|auth|account|private|secret|encryption|subscription|storage|service)[ _-]?(?:key|token|secret)"
    "(?:[ _-]?id)?|(?:access|auth|api|refresh|id|bearer|bot|session|deploy|security|oauth|x[ _-]?auth)[ _-]?token"
    "|secret[ _-]?access[ _-]?key|secret|token|credentials?|apikey"
)
_ANNOUNCED: Final = re.compile(
    rf"(?:(?P<password>{_PASSWORD_WORD})|(?P<key>{_KEY_WORD}))(?P<more>[ _-]?[0-9a-z]{{1,16}})?[\"'`\]]{{0,2}}"
    r"(?:[ \t]{0,8}(?P<sign>=>|:=|={1,2}|:)[ \t]{0,8}"
    r"|(?P<said>(?: [a-z]{1,12}){0,6}? (?:is|was|ist|war|est|es|lautet)[: ][ ]{0,2})|(?P<near> ))"
    r"(?:[rbuf]{0,2}(?P<quote>[\"'`])(?P<quoted>[^\"'`\n]{1,4000}+)(?P=quote)"
    r"|(?P<bare>[^\s\"'`,;&<>(){}\[\]]{4,400}+)(?P<call>[(\[{])?)",
    re.IGNORECASE,
)
_AUTHORIZATION: Final = re.compile(
    r"\b(?:bearer|basic|token)[ \t]{1,4}(?P<value>[A-Za-z0-9._~+/=-]{16,4000}+)", re.IGNORECASE
)
# Where a bare word may follow '=' and be a password: at the beginning of a line or of a parameter, not in a call.
_ASSIGNED: Final = re.compile(r"(?:^|[\n?&;]|\bexport |\bset |--?)[A-Za-z0-9_.-]*$")
_WORD_START: Final = 24  # characters before a stem in which its word may begin
_COLUMN: Final = re.compile(rf"(?:(?P<password>{_PASSWORD_WORD})|(?P<key>{_KEY_WORD}))[\"' \r]*$", re.IGNORECASE)
# Not a value but where it comes from: a reference, a template, a parameter of a statement, an ellipsis.
_REFERENCE: Final = re.compile(
    r"secret://|vault:|arn:|file:|https?:|env[.:]|(?:os|self|process|config|settings)\.[a-z_]+|(?-i:\$(?:[({]|[A-Z_]{3,}$))|\{"
    r"|%(?:\(|[sdr]$)|<[a-z]|\*{3,}|x{4,}|\.{3}|[:@/][a-z_]+(?:$|[/\s])|\?$",
    re.IGNORECASE,
)
_NO_SECRET: Final = frozenset(
    [
        "none",
        "null",
        "true",
        "false",
        "undefined",
        "nil",
        "str",
        "string",
        "bytes",
        "int",
        "optional",
        "any",
        "required",
        "empty",
        "changeme",
        "example",
        "placeholder",
        "redacted",
        "hidden",
        "masked",
        "unset",
        "missing",
        "invalid",
        "expired",
        "wrong",
        "unknown",
        "secret",
        "password",
        "token",
        "your_password",
        "password123",
        "yes",
        "no",
        "on",
        "off",
        "text",
        "varchar",
        "input",
        "hash",
        "hashed",
    ]
)
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z_.]*")  # a variable or a word, as 'password: str' has
LEAST_KEY_LENGTH: Final = 12  # of an announced key or token; a shorter one is a word or a number
LEAST_KEY_SAID: Final = 20  # the same in a sentence
LEAST_PASSWORD: Final = 4
LEAST_SAID: Final = 6  # of a password in a sentence
LONGEST_PHRASE: Final = 64  # a quoted text with spaces; a longer one is prose


def tokens(text: str) -> Iterator[Finding]:
    """Every key and password in a text."""
    if any(one in text for one in _BEGINNINGS):
        for found in _KEY.finditer(text):
            yield Finding(found.start(), found.end(), Kind.KEY)
    if "-----BEGIN " in text:
        yield from _pems(text)
    if "://" in text and "@" in text:
        for found in _USERINFO.finditer(text):
            if not _REFERENCE.match(found[1]) and found[1].casefold() not in _NO_SECRET:
                yield Finding(found.start(1), found.end(1), Kind.PASSWORD)
    yield from _announced(text)
    yield from _columns(text)


def announces(text: str) -> bool:
    """Whether a text may hold a key, or announce one or a password. Far quicker than looking for them."""
    if len(text) >= SHORTEST_KEY and any(one in text for one in _BEGINNINGS):
        return True
    lowered = text.lower()
    return any(stem in lowered for stem in _STEMS)


def _pems(text: str) -> Iterator[Finding]:
    for begin in _PEM_BEGIN.finditer(text):
        end = _PEM_END.search(text, begin.end(), begin.end() + MOST_PEM)
        yield Finding(begin.start(), end.end() if end else min(len(text), begin.end() + MOST_PEM), Kind.KEY)


def _announced(text: str) -> Iterator[Finding]:
    until = 0
    for stem in _stems(text):
        if stem < until:
            continue
        if text[stem] in "bBtT":
            found = _AUTHORIZATION.match(text, stem)
            if found is not None and _looks_random(found["value"]):
                yield Finding(found.start("value"), found.end("value"), Kind.KEY)
                until = found.end()
                continue
        for begin in _beginnings(text, stem):
            found = _ANNOUNCED.match(text, begin)
            if found is None:
                continue
            finding = _of_announced(found)
            if finding is not None:
                yield finding
                until = finding.end
            break


def _columns(text: str) -> Iterator[Finding]:
    """What stands in a table's columns of passwords and keys."""
    table = column_names(text)
    if table is None:
        return
    separator, names = table
    kinds = {
        place: Kind.PASSWORD if named["password"] else Kind.KEY
        for place, name in enumerate(names)
        if (named := _COLUMN.search(name)) is not None
    }
    start = text.find("\n") + 1
    while kinds and start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        for place, cell in enumerate(text[start:end].split(separator)):
            value = cell.strip(" \t\r\"'")
            if place in kinds and len(value) >= LEAST_PASSWORD and not _REFERENCE.match(value):
                first = start + cell.find(value)
                yield Finding(first, first + len(value), kinds[place])
            start += len(cell) + 1
        start = end + 1


def _stems(text: str) -> list[int]:
    """Where stems begin, in order."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter that has no single lower one: positions would differ
        lowered = "".join(one.lower() if one.isascii() else one for one in text)
    found = []
    for stem in _STEMS:
        place = lowered.find(stem)
        while place >= 0:
            found.append(place)
            place = lowered.find(stem, place + len(stem))
    return sorted(found)


def _beginnings(text: str, stem: int) -> Iterator[int]:
    """Where the word that holds a stem may begin: 'access_key' has its stem at its end. The earliest first."""
    yield stem
    place = stem
    for _ in range(2):  # at most two parts before it, as in secret_access_key
        if place and text[place - 1] in " _-":
            place -= 1
        lowest = max(0, place - _WORD_START)
        while place > lowest and text[place - 1].isalpha():
            place -= 1
        yield place


def _of_announced(found: re.Match[str]) -> Finding | None:
    kind = Kind.PASSWORD if found["password"] else Kind.KEY
    quoted = found["quoted"] is not None
    value = found["quoted"] if quoted else found["bare"].rstrip(".:")
    start = found.start("quoted" if quoted else "bare")
    if _REFERENCE.match(value) or value.casefold() in _NO_SECRET or found["call"]:
        return None
    if kind is Kind.KEY:
        long = LEAST_KEY_LENGTH if found["sign"] else LEAST_KEY_SAID
        taken = len(value) >= long and " " not in value and _looks_random(value)
    elif found["sign"] is None:  # a sentence: what follows must look like a password
        taken = len(value) >= LEAST_SAID and " " not in value and _classes(value) >= (3 if found["near"] else 2)
    elif quoted:
        taken = len(value) >= LEAST_PASSWORD and not (" " in value and len(value) > LONGEST_PHRASE)
    else:
        taken = len(value) >= LEAST_PASSWORD and (not _IDENTIFIER.fullmatch(value) or _assigned(found, value))
    return Finding(start, start + len(value), kind) if taken else None


def _classes(value: str) -> int:
    """How many of small letters, capitals, digits and signs a value has."""
    tests = (str.islower, str.isupper, str.isdigit, lambda one: not one.isalnum())
    return sum(any(map(test, value)) for test in tests)


def _assigned(found: re.Match[str], value: str) -> bool:
    """Whether a bare word is given to a variable of a shell, a file of settings or an address, and not in code."""
    if found["sign"] != "=" or "." in value or found.string[found.start("sign") - 1] == " ":
        return False
    return _ASSIGNED.search(found.string, max(0, found.start() - 64), found.start()) is not None


def _looks_random(value: str) -> bool:
    """Whether a value mixes letters and digits, as a key does and a name or a path does not."""
    letters = sum(one.isalpha() for one in value)
    figures = sum(one.isdigit() for one in value)
    return (letters >= 2 and figures >= 2) or (letters >= 16 and _mixed(value))


def _mixed(value: str) -> bool:
    turns = sum(one.islower() != other.islower() for one, other in pairwise(value))
    return turns * 3 > len(value)
