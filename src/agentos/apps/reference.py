"""Write the generated pages of the reference from the code, so that they cannot fall behind it.

``make docs`` runs this; ``tests/test_docs.py`` compares its pages with the files.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_origin

import typer.main
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import agentos
from agentos.apps.facts import COVERED, FOR_THE_LEDGER
from agentos.control.policy import cedar
from agentos.control.policy.model import MATRIX, RESTRICTIVE_FIRST, EffectClass, Tier
from agentos.control.policy.routes import DeploymentRules, OrganizationRules
from agentos.control.policy.rules import DEFAULT_DENY, RULES
from agentos.control.policy.service import MOST_ENTRIES
from agentos.evidence.ledger.model import PERSONS
from agentos.evidence.quality import drift, figures, scoring
from agentos.evidence.recommendations import rules
from agentos.evidence.replay import content
from agentos.kernel.errors import EXIT_CODE, KINDS, RETRYABLE, AgentOSError, every_error, http_status
from agentos.kernel.settings import Section
from agentos.kernel.telemetry.catalogue import CATALOGUE, Metric

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

HEADER = "<!-- Written by `make docs` from the code. Do not edit. -->\n"


def pages() -> dict[str, str]:
    """All generated pages, by file name. Loads every module of the platform; the same code gives the same pages."""
    load()
    return {
        "settings.md": settings(),
        "errors.md": errors(),
        "cli.md": commands(),
        "metrics.md": metrics(),
        "policy.md": policy(),
        "determinism.md": determinism(),
        "quality.md": quality(),
        "facts.md": facts(),
    }


def load() -> None:
    """Import every module, since settings and errors are found as subclasses of classes that are loaded."""
    for module in pkgutil.walk_packages(agentos.__path__, "agentos."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def sections() -> list[type[Section]]:
    """Every section of settings that is read, by module; what several have in common is shown with each of them."""
    found = _ours(_subclasses(Section))
    shared = {base for section in found for base in section.__mro__[1:]}
    read = [section for section in found if section not in shared]
    return sorted(read, key=lambda section: (section.__module__, section.__name__))


def variables(section: type[Section]) -> dict[str, FieldInfo]:
    """The fields of a section by the variable that each is read from."""
    prefix = section.model_config.get("env_prefix", "")
    return {
        field.alias or f"{prefix}{name}".upper(): field  # an alias is the whole name of a variable
        for name, field in section.model_fields.items()
    }


def settings() -> str:
    """The page of settings, one table for each section."""
    body = [
        "# Settings\n",
        "Read from the environment once, when a process starts. Every default works on one machine.\n",
    ]
    for section in sections():
        body += [f"## {section.__name__}\n", f"{_guarantee(section)} In `{section.__module__}`.\n"]
        body += _table(
            ("variable", "type", "default", "description"),
            (
                (f"`{variable}`", _code(_limits(field)), _code(_default(field)), field.description or "")
                for variable, field in variables(section).items()
            ),
        )
    return _page(body)


def error_classes() -> list[type[AgentOSError]]:
    """Every error of the platform, kind by kind."""
    found = _ours(every_error())
    return [
        error
        for kind in KINDS
        for error in sorted(found, key=lambda error: (error not in KINDS, error.code))
        if issubclass(error, kind)
    ]


def errors() -> str:
    """The page of errors: what each code means, to HTTP and to a shell, and whether trying again may help."""
    body = [
        "# Errors\n",
        "Over HTTP an error is a problem document (RFC 9457) with its `code`; the command line prints the same\n"
        "document with `--json`, and ends with the exit code. Codes are stable. In bold: the seven kinds.\n",
    ]
    rows = []
    for error in error_classes():
        bare = error.__new__(error)  # the tables need only the class
        code = f"**`{error.code}`**" if error in KINDS else f"`{error.code}`"
        again = "yes" if RETRYABLE[bare.kind] else "no"
        rows.append(
            (code, bare.kind.__name__, str(http_status(bare)), str(EXIT_CODE[bare.kind]), again, _guarantee(error))
        )
    return _page([*body, *_table(("code", "kind", "HTTP status", "exit code", "try again", "meaning"), rows)])


def commands() -> str:
    """The page of the command line, one heading for each command."""
    from agentos.apps.cli.main import command_line
    from agentos.apps.cli.times import SAID

    root = typer.main.get_command(command_line())
    body = [
        "# Command line\n",
        "Every command takes `--json`, in any place. Its exit code is 0 or that of the [kind of error](errors.md).\n",
        f"Every command reads a time alike: {SAID}. A length of time alone, as 24h, is so long ago; a day alone is its "
        "beginning. What names no zone is this terminal's, or that of `--zone`. A time that the clocks skipped or "
        "repeated is refused: write it with its offset. `agentos cost` counts days of UTC, and takes that of a time. "
        "Lengths, as after `--last`, are written 90s, 1h30m, 7d or 2w.\n",
    ]
    for path, command in _commands("agentos", root):
        shown = [parameter for parameter in command.params if not parameter.hidden and parameter.name != "help"]
        is_group = bool(getattr(command, "commands", None))
        if is_group and path != "agentos" and not shown:
            continue  # its commands speak for it
        arguments = [parameter for parameter in shown if not parameter.opts[0].startswith("-")]
        usage = [path, "COMMAND" if is_group else "", "[OPTIONS]" if len(shown) > len(arguments) else ""]
        usage += [_argument(argument) for argument in arguments]
        body += [f"## {path}\n", "```\n" + " ".join(word for word in usage if word) + "\n```\n"]
        body += [(command.help or "").strip() + "\n"]
        if shown:
            body += _table(
                ("parameter", "default", "meaning"),
                ((_spelled(parameter), _code(_given(parameter)), parameter.help or "") for parameter in shown),
            )
    return _page(body)


def metrics() -> str:
    """The page of metrics, with the names that the runbooks use for the same measurement."""
    body = [
        "# Metrics\n",
        "Every process exports its own on `/metrics`; the page of the embedded API merges them. A metric that the\n"
        "runbooks know by other names is exported under those too, from the same measurement.\n",
    ]
    return _page(
        [
            *body,
            *_table(
                ("metric", "kind", "unit", "labels", "meaning", "also exported as"),
                (
                    (
                        f"`{metric.name}`",
                        metric.kind,
                        metric.unit,
                        ", ".join(f"`{label}`" for label in metric.labels),
                        metric.help,
                        ", ".join(_also(metric)),
                    )
                    for metric in sorted(CATALOGUE, key=lambda metric: metric.name)
                ),
            ),
        ]
    )


def facts() -> str:
    """The page of facts, by what the ledger has to tell."""
    body = [
        "# Facts\n",
        "What happened, as it stands in the [ledger](../audit.md) and as outside systems that subscribed are told:\n"
        "ids, digests and times, never content. A fact may stand for several things, and is shown with each. `key` is\n"
        "what `agentos audit search --key` looks for; in bold who did it, which `--person` looks for.\n",
    ]
    for what, kinds in COVERED.items():
        rows = []
        for kind in kinds:
            names = [field.name for field in dataclasses.fields(kind)]
            by = next((name for name in PERSONS if name in names), "")
            told = ", ".join(f"**`{name}`**" if name == by else f"`{name}`" for name in names)
            rows.append((f"`{kind.__name__}`", _guarantee(kind), f"`{kind.key_field}`", told))
        body += [f"## {what.capitalize()}\n", *_table(("fact", "what happened", "key", "what it says"), rows)]
    outside = ", ".join(f"`{kind.__name__}`" for kind in FOR_THE_LEDGER)
    return _page(
        [*body, f"\nFor the ledger alone, as there are so many that nobody could be told of each: {outside}.\n"]
    )


def _also(metric: Metric) -> Iterator[str]:
    for name in metric.also:
        yield f"`{name}`"
    for one in metric.sums:
        yield f"`{one.name}` (over every `{one.over}`{f' but {one.but}' if one.but else ''})"


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


def policy() -> str:
    """The page of policy: the matrix, the precedence of rules, and what rules in Cedar can speak of."""
    body = [
        "# Policy\n",
        "Every call of a skill comes before these tables at the moment when its effect is committed. Nothing acts\n"
        "without a yes.\n",
        "## The matrix\n",
        "A row for each autonomy tier, a column for each effect class.\n",
    ]
    body += _table(
        ("", *(f"{one.name}: {words}" for one, words in _told(EffectClass).items())),
        (
            (f"**{tier.name}** {words}", *(_cell(tier, effect) for effect in EffectClass))
            for tier, words in _told(Tier).items()
        ),
    )
    body += [
        "`ask_two` takes two different people. A draft that a person submits asks, too.\n",
        "## Precedence\n",
        f"Each rule answers or passes. The most restrictive answer wins ({' > '.join(RESTRICTIVE_FIRST)}); of the\n"
        "rules that gave it, the first in this table is cited in the journal, with its reasons.\n",
    ]
    rules = (*RULES, DEFAULT_DENY)
    body += _table(
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
        body += [f"The policy of {scope}:\n", *_table(("field", "meaning"), fields)]
    body += [
        "## Rules in Cedar\n",
        *_table(("form", "meaning"), ((f"`{form}`", words) for form, words in cedar.FORMS.items())),
        "A policy that cannot be evaluated denies: it never just drops out.\n",
        f"At most {cedar.MOST_POLICIES} policies in {cedar.MOST_TEXT} characters, each of {cedar.MOST_TOKENS} words\n"
        f"and signs, nested {cedar.MOST_NESTED} deep. They are checked against this schema when they are saved:\n",
        f"```\n{cedar.SCHEMA.strip()}\n```\n",
    ]
    return _page(body)


def quality() -> str:
    """The page of quality: every figure, every part of a score, every dimension of drift, and the sample sizes."""
    body = [
        "# Figures of quality\n",
        "What they mean and how they are used: [quality.md](../quality.md). A gate names a figure by its name.\n",
        "## Figures\n",
    ]
    rows = (
        (f"`{one.name}`", one.unit, one.better, one.formula, "yes" if one.comparable else "no")
        for one in (figures.METRICS | figures.WHAT_IFS).values()
    )
    body += _table(("figure", "unit", "better", "formula", "`no_worse`"), rows)
    evaluated = figures.metric(f"{figures.EVAL}dataset")
    body += [f"And `{figures.EVAL}DATASET`: {evaluated.formula}.\n"]
    body += [f"## Parts of a score, formula {scoring.FORMULA}\n"]
    body += _table(
        ("part", "weight", "value, 0 to 1"),
        ((f"`{one.name}`", f"{one.weight:g}", one.formula) for one in scoring.PARTS),
    )
    body += ["## Parts of confidence\n"]
    body += _table(("part", "value"), ((f"`{name}`", formula) for name, formula in scoring.GROUNDS))
    body += [f"Confidence is ({scoring.PRIOR} × mean + accepted) ÷ ({scoring.PRIOR} + judged).\n"]
    body += ["## Dimensions of drift\n"]
    distances = {"category": "Jensen–Shannon distance", "number": "Kolmogorov–Smirnov statistic"}
    body += _table(
        ("dimension", "of each run", "distance"),
        ((f"`{one.name}`", one.what, distances[one.kind]) for one in drift.DIMENSIONS),
    )
    body += ["## Recommendations\n"]
    body += _table(
        ("kind", "is made when"), ((f"`{rule.__name__}`", (rule.__doc__ or "").strip()) for rule in rules.RULES)
    )
    body += ["## Runs of each version that a `no_worse` gate takes\n"]
    margins = (0.02, 0.05, 0.1)
    body += _table(
        ("rate of the serving version", *(f"margin {margin:.0%}" for margin in margins)),
        (
            (f"{rate:.0%}", *(f"{figures.samples_for(margin, rate):,}" for margin in margins))
            for rate in (0.99, 0.95, 0.9, 0.8, 0.5)
        ),
    )
    return _page(body)


def determinism() -> str:
    """The page of determinism: what of a run is hashed, compared and left out, and what sets two runs apart."""
    body = [
        "# Determinism\n",
        f"The content hash of a run is the SHA-256 of one document in its RFC 8785 form, format {content.FORMAT}:\n"
        "`end` (status, code, output), `format`, `input`, `steps` and `version`. A step is an answer of the model, a\n"
        "call, or what people wrote to the run; steps stand in the order in which the agent took them. A replay is\n"
        "compared with its recording field by field in the order of this table, and the first that differs gives the\n"
        "divergence its class.\n",
        "## What counts\n",
    ]
    body += _table(
        ("of", "field", "class of a difference", "", "meaning"),
        (
            (f"the {part.of}", f"`{part.name}`", f"`{part.kind}`", "hashed" if part.hashed else "compared", part.words)
            for part in content.PARTS
        ),
    )
    body += ["## What is left out\n", *_table(("what", "why"), content.LEFT_OUT.items())]
    body += [
        'Whole numbers from 2^53 on, which RFC 8785 has no form for, are hashed as `{"$number": "…"}`.\n',
        "## Classes\n",
        *_table(("class", "meaning"), ((f"`{kind}`", words) for kind, words in _told(content.Kind).items())),
    ]
    return _page(body)


def _told(kind: type[E]) -> dict[E, str]:
    """The members of an enum, each with the comment that stands beside it."""
    told = re.findall(r"^    (\w+) = \S+  # (.*)$", inspect.getsource(kind), re.MULTILINE)
    return {kind[name]: words for name, words in told}


def _cell(tier: Tier, effect: EffectClass) -> str:
    named = (tier, effect) == (Tier.L4, EffectClass.S3)
    return f"`{MATRIX[tier][effect]}`" + (", or `allow` where a policy names the skill" if named else "")


def _page(body: Iterable[str]) -> str:
    return "\n".join([HEADER, *body]).rstrip("\n") + "\n"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (" ".join(cell.replace("|", "\\|").split()) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return ["\n".join(lines) + "\n"]


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _guarantee(documented: type) -> str:
    """The first sentence or line of a docstring: by our convention it says what is guaranteed."""
    return (documented.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ").replace("``", "`")


def _subclasses(kind: type[T]) -> Iterator[type[T]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _ours(found: Iterable[type[T]]) -> list[type[T]]:
    """Only the platform's own: in a test run there are also classes that tests made."""
    return [each for each in dict.fromkeys(found) if each.__module__.startswith("agentos.")]


def _type(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return "none"
    arguments = get_args(annotation)
    if str(get_origin(annotation)) == "typing.Literal":
        return " or ".join(str(value) for value in arguments)
    if arguments and "Union" in str(get_origin(annotation)):
        return " or ".join(_type(argument) for argument in arguments)
    if arguments:
        return f"{_type(get_origin(annotation))} of {', '.join(_type(argument) for argument in arguments)}"
    readable = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
    readable |= {"SecretStr": "secret text", "timedelta": "duration"}
    name = getattr(annotation, "__name__", str(annotation))
    return readable.get(name, name)


def _limits(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "max_length": "length ≤"}
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([_type(field.annotation), *limits])


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=False)
    if default is PydanticUndefined:
        return "computed" if field.default_factory else "required"
    secret = getattr(default, "get_secret_value", None)  # defaults are public; only given values are secret
    return str(secret() if secret else default)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if command.hidden:
        return
    yield path, command
    for name, sub in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(f"{path} {name}", sub)


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name).upper() + ("..." if parameter.nargs != 1 else "")
    return name if parameter.required else f"[{name}]"


def _spelled(parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return f"`{_argument(parameter)}`"
    return ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))


def _given(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if default is None or default is False or default in ((), [], ""):
        return ""
    if isinstance(default, bool):
        return "on"
    return "computed" if callable(default) else str(getattr(default, "value", default))


def main() -> None:
    """Write every page into the folder that is given."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)


if __name__ == "__main__":
    main()
