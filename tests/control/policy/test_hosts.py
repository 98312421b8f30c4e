"""The hosts of a call, however they are written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.control.policy.hosts import hosts_of

json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [
        ({"url": "https://api.example/x?y#z"}, {"api.example"}),
        ({"url": "HTTPS://API.Example.:8443/"}, {"api.example"}),
        ({"a": [{"b": [["see http://deep.example/x and ftp://other.example"]]}]}, {"deep.example", "other.example"}),
        ({"http://key.example": 1}, {"key.example"}),
        ({"url": "//without.example/x"}, {"without.example"}),
        ({"url": "https://good.example@evil.example/"}, {"good.example", "evil.example"}),
        ({"url": "https://evil.example\\@good.example/"}, {"good.example", "evil.example"}),
        ({"url": "https:\\\\evil.example\\x"}, {"evil.example", "x"}),
        ({"url": "http://%65vil.example/"}, {"evil.example"}),
        ({"url": "http://ｅｖｉｌ．example/"}, {"evil.example"}),
        ({"url": "http://evil。example/"}, {"evil.example"}),
        ({"url": "http://bücher.example/"}, {"bücher.example", "xn--bcher-kva.example"}),
        ({"url": "http://[::1]:80/"}, {"::1"}),
        ({"host": "db.example:5432"}, {"db.example"}),
        ({"to": "ann@mail.example"}, {"mail.example"}),
        ({"text": "a" * 300_000 + "//" + "b" * 300_000 + "." + "c" * 300_000}, set()),
        ({"text": '"\\' * 100_000 + "https://last.example"}, {"last.example"}),
        ({"text": "no host in here", "n": 3.14, "none": None}, set()),
    ],
)
def test_every_host_in_the_arguments_is_found(arguments: Any, hosts: set[str]) -> None:
    assert set(hosts_of(arguments)) == hosts


@given(json_data)
def test_any_arguments_can_be_looked_through(arguments: Any) -> None:
    found = hosts_of(arguments)
    assert list(found) == sorted(set(found))


@given(json_data, st.lists(st.sampled_from(["a", 0]), max_size=5))
def test_a_url_is_found_wherever_it_stands(arguments: Any, path: list[Any]) -> None:
    value: Any = "https://evil.example/x"
    for step in path:
        value = {step: value, "b": arguments} if isinstance(step, str) else [arguments, value]
    assert "evil.example" in hosts_of(value)


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [
        ({"url": "https://user:pw@Hooks.Example.com:8443/x?y"}, {"hooks.example.com"}),
        ({"deep": [{"to": "Ann <ann@example.com>"}]}, {"example.com"}),
        ({"text": "see http://a.example/ and ftp://b.example."}, {"a.example", "b.example"}),
        ({"host": "db.example.com:5432"}, {"db.example.com"}),
        ({"host": "EXAMPLE.com."}, {"example.com"}),
        ({"url": "https://bücher.example/"}, {"xn--bcher-kva.example"}),
        ({"url": "http://[::1]:80/"}, {"::1"}),
        ({"n": 1, "none": None}, set()),
    ],
)
def test_hosts_are_found_wherever_arguments_name_them(arguments: dict[str, object], hosts: set[str]) -> None:
    assert hosts <= set(hosts_of(arguments))
    if not hosts:
        assert not hosts_of(arguments)
