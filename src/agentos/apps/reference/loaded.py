"""What is found as subclasses of classes, once every module of the platform is loaded."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from typing import TypeVar

import agentos

T = TypeVar("T")


def load() -> None:
    """Import every module, since settings and errors are found as subclasses of classes that are loaded."""
    for module in pkgutil.walk_packages(agentos.__path__, "agentos."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def subclasses(kind: type[T]) -> Iterator[type[T]]:
    """All classes below one, at any depth."""
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def ours(found: Iterable[type[T]]) -> list[type[T]]:
    """Only the platform's own: in a test run there are also classes that tests made."""
    return [each for each in dict.fromkeys(found) if each.__module__.startswith("agentos.")]
