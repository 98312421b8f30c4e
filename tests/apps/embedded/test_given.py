"""Clusters that the environment names are used, and then nothing of theirs is started."""

from __future__ import annotations

import os

import pytest

from agentos.apps.embedded import verbs
from agentos.apps.embedded.supervisor import GivenUnreachable
from agentos.kernel.settings import BadSetting


def test_with_both_given_neither_engine_is_started(stack, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", os.environ["AGENTOS_TEST_DATABASE_URL"])
    monkeypatch.setenv("TEMPORAL_ADDRESS", os.environ["AGENTOS_TEST_TEMPORAL"])
    stack.up()
    assert set(stack.processes()) == {"api", "worker-1", "worker-2"}
    assert not (stack.home.postgres / "data").exists() and not any(stack.home.temporal.iterdir())
    assert os.environ["AGENTOS_TEST_TEMPORAL"] in verbs.logs(stack.home, "migrate", 1)[0]
    picture = verbs.status(stack.home)
    assert picture["ready"] and picture["given"]["temporal"] == os.environ["AGENTOS_TEST_TEMPORAL"]
    password = os.environ["AGENTOS_TEST_DATABASE_URL"].split(":")[2].split("@")[0]
    assert password not in str(picture) + (stack.home.path / "state.json").read_text()


@pytest.mark.parametrize(
    ("variable", "source", "started"),
    [
        ("DATABASE_URL", "AGENTOS_TEST_DATABASE_URL", "temporal"),
        ("TEMPORAL_ADDRESS", "AGENTOS_TEST_TEMPORAL", "postgres"),
    ],
)
def test_with_one_given_the_other_engine_is_started(stack, monkeypatch, variable, source, started):
    monkeypatch.setenv(variable, os.environ[source])
    stack.up(workers=1)
    assert set(stack.pids()) == {started, "api", "worker-1"}
    assert verbs.status(stack.home)["ready"]


@pytest.mark.parametrize("variable", ["DATABASE_URL", "TEMPORAL_ADDRESS"])
def test_a_given_cluster_that_does_not_answer_is_named(stack, monkeypatch, variable):
    monkeypatch.setenv("DATABASE_URL", os.environ["AGENTOS_TEST_DATABASE_URL"])
    monkeypatch.setenv("TEMPORAL_ADDRESS", os.environ["AGENTOS_TEST_TEMPORAL"])
    monkeypatch.setenv(variable, {"DATABASE_URL": "postgresql://a:b@127.0.0.1:9/c"}.get(variable, "127.0.0.1:9"))
    with pytest.raises(GivenUnreachable, match=rf"127.0.0.1:9 does not answer .*{variable}"):
        stack.up()
    assert stack.processes() == []


@pytest.mark.parametrize(("variable", "value"), [("DATABASE_URL", "mysql://x/y"), ("TEMPORAL_ADDRESS", "nowhere")])
def test_an_address_that_is_none_is_refused(stack, monkeypatch, variable, value):
    monkeypatch.setenv("DATABASE_URL", os.environ["AGENTOS_TEST_DATABASE_URL"])
    monkeypatch.setenv("TEMPORAL_ADDRESS", os.environ["AGENTOS_TEST_TEMPORAL"])
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSetting, match=variable):
        stack.up()
