"""Rules that an organization writes in Cedar: read once, checked against the schema below, asked for each call.

A policy that cannot be evaluated denies: it never just drops out. The library is loaded with the first rules that are
met, since it takes 8 MB of a process and most organizations write none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agentos.control.policy.model import PolicyRefused, Verdict, refused
from agentos.control.stops.model import Subject

if TYPE_CHECKING:
    import cedarpy

SCHEMA: Final = """
entity Category;
entity Agent in [Category];
entity Skill;

action "call" appliesTo {
  principal: [Agent],
  resource: [Skill],
  context: {
    effect: Long,        // 0 to 4, as S0 to S4
    tier: Long,          // 0 to 4, as L0 to L4: in force, after stops
    skill: String,       // the resource's id, for 'like'
    agent: String,
    category: String,
    deployment: String,
    hosts: Set<String>,  // those that the arguments name
    submitted: Bool,     // a person submitted the call out of a draft
  },
};
"""
FORMS: Final = {
    "forbid (…) when {…};": "the call is denied",
    '@verdict("ask") forbid (…) when {…};': "it takes an approval; likewise `ask_two`, `draft` and `deny`",
    'permit (…, resource == Skill::"NAME") when {…};': (
        "an agent at L4 calls this skill of S3 without asking; nothing else is loosened"
    ),
    '@id("NAME")': "before a policy: how decisions name it",
}
_ACTION: Final = {"type": "Action", "id": "call"}

# The library reads recursively, and a text that is nested some thousand deep ends the process: we look first.
MOST_TEXT: Final = 64 * 1024
MOST_POLICIES: Final = 500
MOST_TOKENS: Final = 1000  # of one policy
MOST_NESTED: Final = 32

_TOKEN: Final = re.compile(r'\s+|//[^\n\r]*|"(?:\\.|[^"\\])*"|[A-Za-z_]\w*|\d+|::|&&|\|\||[=!<>]=|.', re.DOTALL)
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_NAMED: Final = re.compile(r"`([^`]{1,80})`")
_NUMBER: Final = re.compile(r"policy(\d+)$")


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Said:
    """What the rules say of one call: the most restrictive verdict of those that forbid, and who gave it."""

    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    failed: bool = False  # a policy could not be evaluated
    permitted: tuple[str, ...] = ()  # policies that name the call, when none forbids it


NOTHING: Final = Said()


class Rules:
    """Policies that were read and can be asked. ``verdicts``: what each that forbids stands for."""

    def __init__(self, policies: cedarpy.PolicySet, names: Mapping[str, str], verdicts: Mapping[str, Verdict]) -> None:
        self._policies = policies
        self._names = names
        self._verdicts = verdicts

    @property
    def asks(self) -> bool:
        """Whether any policy may ask for an approval or a draft."""
        return any(one is not Verdict.DENY for one in self._verdicts.values())

    def say(self, subject: Subject, entities: cedarpy.Entities, context: Mapping[str, Any]) -> Said:
        """What the policies say of one call."""
        import cedarpy

        question = {
            "principal": {"type": "Agent", "id": subject.agent_id},
            "action": _ACTION,
            "resource": {"type": "Skill", "id": context["skill"]},
            "context": context,
        }
        try:
            answer = cedarpy.is_authorized(question, self._policies, entities)
        except ValueError as error:  # a text in it is none, such as half a character
            return Said(Verdict.DENY, (f"cedar: the call cannot be put: {str(error)[:300]}",), failed=True)
        told = answer.diagnostics
        if told.errors:
            return Said(Verdict.DENY, tuple(sorted(f"cedar: {error[:300]}" for error in told.errors)), failed=True)
        if not told.reasons:
            return NOTHING
        names = sorted(told.reasons, key=_number)
        if answer.allowed:
            return Said(permitted=tuple(self._names[one] for one in names))
        verdict = min((self._verdicts[one] for one in names), key=lambda one: one.rank)
        return Said(verdict, tuple(f"cedar: {self._names[one]}" for one in names if self._verdicts[one] is verdict))


def entities_of(subject: Subject) -> cedarpy.Entities:
    """The agent and its category, as policies know them."""
    import cedarpy

    category = {"type": "Category", "id": subject.category}
    agent = {"uid": {"type": "Agent", "id": subject.agent_id}, "attrs": {}, "parents": [category]}
    return cedarpy.Entities.from_json_str(json.dumps([agent, {"uid": category, "attrs": {}, "parents": []}]))


def read(text: str) -> Rules | None:
    """The rules of a text; None when it has none. Raises PolicyRefused (Invalid) with every fault and its place."""
    statements = _statements(text)
    if not statements:
        return None
    import cedarpy

    for statement in statements:
        try:
            cedarpy.PolicySet.from_str(_joined(text, statement))
        except ValueError as error:
            raise _refused(text, [(_fault(text, statement, str(error)), str(error))]) from None
    policies = cedarpy.PolicySet.from_str(text)
    faults: list[tuple[int, str]] = []
    for template in policies.templates():
        faults.append((_start(statements, template["id"]), "a template says nothing by itself: name what it is about"))
    for fault in cedarpy.validate_policies(text, cedarpy.Schema.from_str(SCHEMA)).errors:
        said = re.sub(r"^for policy `\w+`, ", "", fault.error)
        number = _number(fault.policy_id)
        at = _named(statements[number], said) if number < len(statements) else 0
        if not said.startswith("unable to find an applicable action") or not faults:  # it follows from the fault before
            faults.append((at, said))
    names: dict[str, str] = {}
    verdicts: dict[str, Verdict] = {}
    written = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    for policy_id in sorted(written, key=_number):
        one, at = written[policy_id], _start(statements, policy_id)
        notes = one.get("annotations", {})
        name = str(notes.get("id") or f"policy {_number(policy_id) + 1}, line {_place(text, at)[0]}")[:100]
        if name in names.values():
            faults.append((at, f"two policies are called '{name}'"))
        names[policy_id] = name
        if one["effect"] == "forbid":
            wanted = str(notes.get("verdict", Verdict.DENY))
            if wanted in set(Verdict) - {Verdict.ALLOW}:
                verdicts[policy_id] = Verdict(wanted)
            else:
                faults.append((at, f'@verdict("{wanted[:40]}") is none of deny, draft, ask and ask_two'))
        else:
            if "verdict" in notes:
                faults.append((at, "a permit has no verdict"))
            if one["resource"]["op"] != "==":
                faults.append((at, 'a permit names its skill: resource == Skill::"NAME"'))
    if faults:
        raise _refused(text, faults)
    return Rules(policies, names, verdicts)


def _statements(text: str) -> list[list[_Token]]:
    """The tokens of each policy. Raises PolicyRefused (Invalid) for what the library could not read safely."""
    if len(text) > MOST_TEXT:
        raise _refused(text, [(0, f"the text is over {MOST_TEXT} characters")])
    if (strange := _CONTROL.search(text)) is not None:
        raise _refused(text, [(strange.start(), f"U+{ord(strange[0]):04X} has no place in a policy")])
    found: list[list[_Token]] = [[]]
    nested = 0
    for match in _TOKEN.finditer(text):
        word = match[0]
        if word.isspace() or word.startswith("//"):
            continue
        found[-1].append(_Token(word, match.start()))
        if word == '"':
            raise _refused(text, [(match.start(), "a string has no end")])
        nested += (word in "([{") - (word in ")]}")
        if nested > MOST_NESTED or len(found[-1]) > MOST_TOKENS or len(found) > MOST_POLICIES:
            limits = f"{MOST_POLICIES} policies, each of {MOST_TOKENS} words and signs, nested {MOST_NESTED} deep"
            raise _refused(text, [(match.start(), f"a text has at most {limits}")])
        if word == ";":
            found.append([])
            nested = 0
    return [one for one in found if one]


def _joined(text: str, tokens: Sequence[_Token]) -> str:
    return text[tokens[0].at : tokens[-1].at + len(tokens[-1].text)]


def _fault(text: str, statement: Sequence[_Token], said: str) -> int:
    """Where a policy that cannot be read goes wrong: at the end of the shortest beginning that no text could mend."""
    import cedarpy

    low, high = 0, len(statement)
    while low < high:
        middle = (low + high) // 2
        try:
            cedarpy.PolicySet.from_str(_joined(text, statement[: middle + 1]))
            mendable = True
        except ValueError as error:
            mendable = str(error) == "unexpected end of input"
        low, high = (middle + 1, high) if mendable else (low, middle)
    if low >= len(statement):  # it ends too early
        return statement[-1].at
    return statement[low].at if statement[low].text != ";" else _named(statement, said)


def _named(statement: Sequence[_Token], said: str) -> int:
    """Where what an error names stands in a policy, else where the policy begins."""
    wanted = {part for name in _NAMED.findall(said) for part in re.findall(r"\w+", name)}
    wanted |= {said.rpartition(": ")[2]}
    known = [one for one in statement if one.text in wanted]
    return known[0].at if known else statement[0].at


def _start(statements: Sequence[Sequence[_Token]], policy_id: str) -> int:
    number = _number(policy_id)
    return statements[number][0].at if number < len(statements) else 0


def _number(policy_id: str) -> int:
    found = _NUMBER.search(policy_id)
    return int(found[1]) if found else 0


def _place(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


def _refused(text: str, faults: Sequence[tuple[int, str]]) -> PolicyRefused:
    return refused([("cedar:{}:{}".format(*_place(text, at)), what) for at, what in sorted(faults)])
