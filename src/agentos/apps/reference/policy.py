"""The page of policy: the matrix, the precedence of rules, and what rules in Cedar can speak of."""

from __future__ import annotations

from typing import Final

from agentos.apps.reference import markdown
from agentos.control.policy import cedar
from agentos.control.policy.model import MATRIX, RESTRICTIVE_FIRST, EffectClass, Tier
from agentos.control.policy.routes import DeploymentRules, OrganizationRules
from agentos.control.policy.rules import DEFAULT_DENY, RULES
from agentos.control.policy.service import MOST_ENTRIES

PROPOSAL: Final = """\
tier: L2                      # for every deployment that is looked at
organization: {deny: [pay]}   # a policy of the organization; likewise deployment
denylist: {skills: ["no*"], domains: [evil.example], agents: [], providers: [claude]}
budgets:
  money: "0.50"               # of each run, in US dollars; likewise turns, steps, tokens and seconds
  caps:
    - {period: day, money: "20.00"}                    # of the organization
    - {period: month, agent: tester, tokens: 5000000}  # of an agent
"""


def page() -> str:
    """The page as text."""
    body = [
        "# Policy\n",
        "Every call of a skill comes before these tables at the moment when its effect is committed. Nothing acts\n"
        "without a yes.\n",
        "## The matrix\n",
        "A row for each autonomy tier, a column for each effect class.\n",
    ]
    body += markdown.table(
        ("", *(f"{one.name}: {words}" for one, words in markdown.told(EffectClass).items())),
        (
            (f"**{tier.name}** {words}", *(_cell(tier, effect) for effect in EffectClass))
            for tier, words in markdown.told(Tier).items()
        ),
    )
    body += [
        "`ask_two` takes two different people. A draft that a person submits asks, too.\n",
        "## Precedence\n",
        f"Each rule answers or passes. The most restrictive answer wins ({' > '.join(RESTRICTIVE_FIRST)}); of the\n"
        "rules that gave it, the first in this table is cited in the journal, with its reasons.\n",
    ]
    rules = (*RULES, DEFAULT_DENY)
    body += markdown.table(
        ("", "code", "the rule"),
        ((str(number), f"`{rule.code}`", rule.words) for number, rule in enumerate(rules, start=1)),
    )
    body += [
        "A backtest also cites `budget`, where a run would have used up a proposed budget before the call, or asked a\n"
        "model that a cap has no room for, and `provider`, where it would have asked one of a denied provider.\n",
        "## What a backtest takes\n",
        "`agentos policy backtest --proposed FILE` puts what runs did before a proposal. The file names any of these;\n"
        "what it leaves out is as in force:\n",
        f"```yaml\n{PROPOSAL}```\n",
        "A cap counts what each answer of a model cost by its journal row, in the order of time. In force it refuses\n"
        "a little earlier, since it reserves the most that a call can cost. A run that is refused asks no more, so\n"
        "what it would have spent is left to others. What was spent before the window, in its first day and month,\n"
        "counts as it was; answers of releases that kept no cost count as free (`answers_unpriced`). With\n"
        "`--deployment` all others spend too, and are not told. Caps in force are not added: runs have met them.\n",
        "## What people write\n",
        f"Lists of {MOST_ENTRIES} entries at most. Globs know `*`, `?` and `[abc]`.\n",
    ]
    for scope, written in (("an organization", OrganizationRules), ("a deployment", DeploymentRules)):
        fields = ((f"`{name}`", field.description or "") for name, field in written.model_fields.items())
        body += [f"The policy of {scope}:\n", *markdown.table(("field", "meaning"), fields)]
    body += [
        "## Rules in Cedar\n",
        *markdown.table(("form", "meaning"), ((f"`{form}`", words) for form, words in cedar.FORMS.items())),
        "A policy that cannot be evaluated denies: it never just drops out.\n",
        f"At most {cedar.MOST_POLICIES} policies in {cedar.MOST_TEXT} characters, each of {cedar.MOST_TOKENS} words\n"
        f"and signs, nested {cedar.MOST_NESTED} deep. They are checked against this schema when they are saved:\n",
        f"```\n{cedar.SCHEMA.strip()}\n```\n",
    ]
    return markdown.page(body)


def _cell(tier: Tier, effect: EffectClass) -> str:
    named = (tier, effect) == (Tier.L4, EffectClass.S3)
    return f"`{MATRIX[tier][effect]}`" + (", or `allow` where a policy names the skill" if named else "")
