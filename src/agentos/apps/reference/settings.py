"""The page of settings, one table for each section."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agentos.apps.reference import loaded, markdown
from agentos.kernel.settings import Section


def sections() -> list[type[Section]]:
    """Every section of settings that is read, by module; what several have in common is shown with each of them."""
    found = loaded.ours(loaded.subclasses(Section))
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


def page() -> str:
    """The page as text."""
    body = [
        "# Settings\n",
        "Read from the environment once, when a process starts. Every default works on one machine.\n",
    ]
    for section in sections():
        body += [f"## {section.__name__}\n", f"{markdown.guarantee(section)} In `{section.__module__}`.\n"]
        body += markdown.table(
            ("variable", "type", "default", "description"),
            (
                (
                    f"`{variable}`",
                    markdown.code(_limits(field)),
                    markdown.code(_default(field)),
                    field.description or "",
                )
                for variable, field in variables(section).items()
            ),
        )
    return markdown.page(body)


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
