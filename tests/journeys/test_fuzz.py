"""Whatever is sent to any route, it answers soon, as its document says, and never with a fault of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, max_response_time, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.journeys.conftest import Platform
from tests.journeys.test_isolation import victim

EXAMPLES: Final = 5  # of each operation, in each mode: four times as many meet every field, in a minute for all
SLOWEST_SECONDS: Final = 2.0
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    max_response_time,
]
NAMES: Final = {
    "agent": "tester",
    "agent_id": "tester",
    "person": "author",
    "version": "1",
}  # what is there to be found
BOUNDED: Final = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

# The platform under test lives in another thread of this process and draws its pauses from the global generator.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")


@pytest.fixture
async def ids(platform: Platform) -> dict[str, str]:
    """One of everything that an id can name; the run is over, so that its stream ends."""
    found = await victim(platform)
    (over,) = (await platform.author.get("/api/v1/runs", params={"agent": "drafter"})).json()["items"]
    return found | {"run_id": over["id"]}


def operations(platform: Platform) -> Iterator[Any]:
    load_all_checks()
    config = schemathesis.Config()
    config.projects.default.checks.update(max_response_time=SLOWEST_SECONDS)
    document = requests.get(f"{platform.address}/api/v1/openapi.json", timeout=10).json()
    for one in schemathesis.openapi.from_dict(document, config=config).get_all_operations():
        yield one.ok()


def fuzz(platform: Platform, key: str, checks: list[Any], ids: dict[str, str]) -> tuple[set[str], list[str]]:
    """Send examples of every operation: as its document has them, and otherwise; of things that are there, and
    others. What was asked, and what was wrong.
    """
    session, asked, wrong = requests.Session(), set(), []
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    def sending(names: dict[str, str]) -> Callable[[Any], None]:
        def send(case: Any) -> None:
            asked.add(case.operation.label)
            if key:  # a caller who is let in: what is generated for the header would keep nearly all of them out
                case.headers["Authorization"] = headers["Authorization"]
            if isinstance(case.body, dict):
                case.body |= {name: value for name, value in names.items() if name in case.body}
            answer = case.call(base_url=platform.address, session=session, headers=headers, timeout=20)
            case.validate_response(answer, checks=checks, headers=headers)

        return send

    for operation in operations(platform):
        named = {one.name: ids[one.name] for one in operation.path_parameters}
        # Who is not let in is refused before anything is looked up, whether it is there or not.
        targets = (({}, {}), (named, NAMES)) if key else ((named, NAMES),)
        for mode, (path, names) in product(GenerationMode, targets):
            examples = given(case=operation.as_strategy(mode, path_parameters=path))(sending(names))
            try:
                seed(1)(BOUNDED(examples))()
            except Unsatisfiable:  # what takes nothing, or anything, cannot be asked otherwise
                described = any(one.definition["schema"] for one in operation.body)
                assert not (operation.query or operation.headers or described)
            except (Exception, ExceptionGroup) as error:
                inner = [str(one) for one in error.exceptions] if isinstance(error, ExceptionGroup) else []
                wrong.append("; ".join([f"{operation.label}, {mode.value}: {error}", *inner]))
    return asked, wrong


async def test_an_admin_meets_no_fault_of_ours(platform: Platform, ids: dict[str, str]) -> None:
    key = str(platform.admin.headers["Authorization"]).removeprefix("Bearer ")
    asked, wrong = await asyncio.to_thread(fuzz, platform, key, CHECKS, ids)
    assert not wrong, "\n\n".join(wrong)
    assert len(asked) > 40


async def test_nobody_without_a_key_meets_a_fault_of_ours(platform: Platform, ids: dict[str, str]) -> None:
    asked, wrong = await asyncio.to_thread(fuzz, platform, "", [*CHECKS, ignored_auth], ids)
    assert not wrong, "\n\n".join(wrong)
    assert len(asked) > 40
