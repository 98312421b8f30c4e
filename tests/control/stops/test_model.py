"""Which stops there can be, which concern a deployment, and which calls the denylist meets."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agentos.control.stops.model import (
    SCOPES,
    DeniesEverything,
    InForce,
    Stop,
    StopKind,
    StopMalformed,
    StopScope,
    StopUnconfirmed,
    Subject,
    Wanted,
    checked,
)
from agentos.control.stops.service import epoch_of

SUBJECT = Subject("dep_1", "writer", "docs")
TARGETS = {
    StopScope.CATEGORY: "docs",
    StopScope.DEPLOYMENT: "dep_1",
    StopScope.AGENT: "writer",
    StopScope.SKILL: "webhook_send",
    StopScope.DOMAIN: "example.com",
    StopScope.PROVIDER: "claude",
}


def stop(kind: StopKind, scope: StopScope, target: str | None = None) -> Stop:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Stop("stop_1", "acme", kind, scope, TARGETS.get(scope, "") if target is None else target, "", "a", at)


@pytest.mark.parametrize("kind", StopKind)
@pytest.mark.parametrize("scope", StopScope)
def test_a_kind_of_stop_is_about_its_scopes_and_no_others(kind: StopKind, scope: StopScope) -> None:
    wanted = Wanted(kind, scope, TARGETS.get(scope, ""), confirm="global")
    if scope in SCOPES[kind]:
        assert checked(wanted).target == TARGETS.get(scope, "")
    else:
        with pytest.raises(StopMalformed, match="is about a"):
            checked(wanted)


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        ("skill", ""),
        ("skill", "web hook"),
        ("skill", "webhook_["),
        ("skill", "webhook_[]"),
        ("skill", "a" * 201),
        ("skill", "webhook\x00"),
        ("domain", ""),
        ("domain", "*.example.com"),
        ("domain", "https://example.com"),
        ("domain", "exa mple.com"),
        ("domain", ".example.com"),
        ("domain", "a" * 254),
        ("agent", ""),
        ("provider", "a b"),
    ],
)
def test_a_malformed_target_is_refused_with_its_place(scope: str, target: str) -> None:
    with pytest.raises(StopMalformed) as caught:
        checked(Wanted(StopKind.DENY, StopScope(scope), target))
    assert caught.value.where == "target"
    assert caught.value.then


@pytest.mark.parametrize("target", ["*", "**", "?*", "[a-z]*"])
def test_a_glob_that_denies_everything_takes_a_confirmation_of_its_own(target: str) -> None:
    with pytest.raises(DeniesEverything, match="every skill"):
        checked(Wanted(StopKind.DENY, StopScope.SKILL, target))
    with pytest.raises(DeniesEverything):
        checked(Wanted(StopKind.DENY, StopScope.SKILL, target, confirm="yes"))
    assert checked(Wanted(StopKind.DENY, StopScope.SKILL, target, confirm=target)).target == target


def test_a_whole_top_level_domain_takes_a_confirmation() -> None:
    with pytest.raises(DeniesEverything):
        checked(Wanted(StopKind.DENY, StopScope.DOMAIN, "com"))
    assert checked(Wanted(StopKind.DENY, StopScope.DOMAIN, "localhost")).target == "localhost"
    assert checked(Wanted(StopKind.DENY, StopScope.DOMAIN, "Example.COM.")).target == "example.com"


def test_everything_is_stopped_only_when_the_word_was_typed() -> None:
    for typed in ("", "yes", "Global", "organization"):
        with pytest.raises(StopUnconfirmed):
            checked(Wanted(StopKind.KILL, StopScope.GLOBAL, confirm=typed))


def test_the_widest_scopes_take_no_target() -> None:
    with pytest.raises(StopMalformed, match="no target"):
        checked(Wanted(StopKind.KILL, StopScope.ORGANIZATION, "acme"))


def test_the_most_restrictive_stop_holds() -> None:
    found = InForce.about(
        SUBJECT, [stop(StopKind.PAUSE, StopScope.AGENT), stop(StopKind.KILL, StopScope.CATEGORY)]
    ).held
    assert found is not None
    assert found.kind is StopKind.KILL


@pytest.mark.parametrize("scope", [StopScope.CATEGORY, StopScope.DEPLOYMENT, StopScope.AGENT])
def test_a_stop_of_another_concerns_nobody_here(scope: StopScope) -> None:
    assert InForce.about(SUBJECT, [stop(StopKind.KILL, scope, "other")]).stops == ()
    assert InForce.about(SUBJECT, [stop(StopKind.KILL, scope)]).held is not None


def test_every_scope_bumps_an_epoch_that_the_run_checks() -> None:
    checked_by_a_run = {"global", "organization", "category:docs", "deployment:dep_1"}
    assert {epoch_of(scope, TARGETS.get(scope, "")) for scope in StopScope} == checked_by_a_run


def test_a_domain_is_denied_with_everything_below_it_and_nothing_beside() -> None:
    found = InForce((stop(StopKind.DENY, StopScope.DOMAIN),))
    assert found.denies("any", ["hooks.example.com"])
    assert found.denies("any", ["example.com"])
    assert not found.denies("any", ["badexample.com", "example.com.evil.org"])
