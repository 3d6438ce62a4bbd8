"""Three-way comparison of a gateway's modules: nothing is lost, whatever happens to either side."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InvalidInput
from model.rules import modules
from model.rules.modules import Connector, Deed, Direction, Side, Standing

KEYS = ["property:comments", "keystore:default", "endpoint:a", "endpoint:b: c"]
documents = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["one", "two", "three"]))
decided = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(list(Side)))


def carried_out(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The document with the changes made."""
    return {key: value for key, value in {**document, **changes}.items() if value is not None}


@given(documents, documents, documents, st.sampled_from(list(Direction)), decided)
def test_a_plan_brings_both_sides_together_and_loses_nothing(
    agreed: dict[str, Any],
    manager: dict[str, Any],
    gateway: dict[str, Any],
    direction: Direction,
    words: dict[str, Side],
) -> None:
    items = modules.compare(agreed, manager, gateway)
    words = {item.key: words[item.key] for item in items if item.differs and item.key in words}
    plan = modules.plan(items, direction, words)
    here, there = carried_out(manager, plan.to_manager), carried_out(gateway, plan.to_gateway)
    for item in items:
        key = item.key
        if key in plan.left:
            # Left alone means: as it was, on both sides.
            assert (here.get(key), there.get(key)) == (manager.get(key), gateway.get(key))
        else:
            assert here.get(key) == there.get(key)
        # A value that only one side changed never gives way unless somebody said so.
        if key not in words and item.at_manager != Deed.NOTHING:
            assert here.get(key) == manager.get(key)
        if key not in words and item.at_gateway != Deed.NOTHING:
            assert there.get(key) == gateway.get(key)
    if direction == Direction.TO_GATEWAY:
        assert here == manager
    if direction == Direction.FROM_GATEWAY:
        assert there == gateway
    if direction == Direction.BOTH and all(key in words for key in plan.conflicts):
        assert here == there


@given(agreed=documents, manager=documents, gateway=documents)
def test_every_conflict_can_be_decided_either_way(
    agreed: dict[str, Any], manager: dict[str, Any], gateway: dict[str, Any]
) -> None:
    items = modules.compare(agreed, manager, gateway)
    conflicts = modules.plan(items, Direction.BOTH, {}).conflicts
    for side, wanted in ((Side.MANAGER, manager), (Side.GATEWAY, gateway)):
        plan = modules.plan(items, Direction.BOTH, dict.fromkeys(conflicts, side))
        for key in conflicts:
            assert carried_out(manager, plan.to_manager).get(key) == wanted.get(key)
            assert carried_out(gateway, plan.to_gateway).get(key) == wanted.get(key)


def test_a_decision_about_what_is_alike_is_refused() -> None:
    items = modules.compare({}, {"endpoint:a": "one"}, {"endpoint:a": "one"})
    assert items[0].standing == Standing.TWIN
    with pytest.raises(InvalidInput, match="endpoint:a"):
        modules.plan(items, Direction.BOTH, {"endpoint:a": Side.MANAGER})


@pytest.mark.parametrize(("revision", "there"), [(7, None), (7, 5), (7, 9), (7, 0), (0, 3)])
def test_a_file_that_is_not_the_agreed_one_takes_nothing_away(revision: int, there: int | None) -> None:
    """A host that was set up anew, and a side that was put back from a copy, lack things that nobody removed."""
    agreed = {"endpoint:a": "one", "endpoint:b": "one"}
    base, told = modules.base(agreed, revision, there=there)
    items = modules.compare(base, agreed, {"endpoint:b": "older"})
    plan = modules.plan(items, Direction.BOTH, {})
    assert told
    assert plan.to_gateway == {"endpoint:a": "one"}
    assert plan.to_manager == {}
    assert plan.conflicts == ("endpoint:b",)


def test_the_agreed_file_is_what_is_compared_with() -> None:
    agreed = {"endpoint:a": "one"}
    assert modules.base(agreed, 7, there=7) == (agreed, None)
    (item,) = modules.compare(agreed, agreed, {})
    assert (item.standing, item.at_gateway) == (Standing.FROM_GATEWAY, Deed.REMOVED)


def test_what_the_file_has_in_a_bad_form_is_left_alone_on_both_sides() -> None:
    items = modules.compare(
        {"endpoint:a": "one"}, {"endpoint:a": "two"}, {}, unreadable={"endpoint:a": "line 3: wrong."}
    )
    plan = modules.plan(items, Direction.BOTH, {"endpoint:a": Side.MANAGER})
    assert (plan.to_manager, plan.to_gateway) == ({}, {})
    assert plan.left["endpoint:a"]


def test_connectors_are_told_with_what_it_means_and_never_brought_together() -> None:
    def nginx(version: str) -> Connector:
        return Connector("endpoints", "nginx", "nginx", version)

    apache, f5 = Connector("endpoints", "apache", "Apache", "1"), Connector("endpoints", "f5", "F5", "1")
    assert modules.compare_connectors([nginx("1")], [nginx("1")]) == []
    found = modules.compare_connectors([nginx("1"), apache], [nginx("2"), f5])
    assert [(one.name, one.manager, one.gateway) for one in found] == [
        ("apache", "1", None),
        ("f5", None, "1"),
        ("nginx", "1", "2"),
    ]
    assert "install it there" in found[0].meaning


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("endpoint:a", {"type": "nginx", "colour": "red"}, "colour"),
        ("endpoint:a", {}, "type"),
        ("endpoint:a", "nginx", ""),
        ("endpoint: a", {"type": "nginx"}, ""),
        ("endpoint:" + "a" * 513, {"type": "nginx"}, ""),
        ("endpoint:a\x1b", {"type": "nginx"}, ""),
        ("keystore:" + "a" * 129, {"type": "pem"}, ""),
        ("keystore:a", {"type": "pem", "install": "auto"}, "install"),
        ("endpoint:a", {"type": "nginx", "install": "never"}, "install"),
        ("endpoint:a", {"type": "nginx", "settings": {"a": {"b": [None]}}}, "settings.a.b"),
        ("endpoint:a", {"type": "nginx", "settings": {"a": float("nan")}}, "settings.a"),
        ("endpoint:a", {"type": "nginx", "settings": {"a": 2**63}}, "settings.a"),
        ("endpoint:a", {"type": "nginx", "window": {"cron": "nonsense"}}, "window"),
        ("endpoint:a", {"type": "nginx", "window": {"zone": "UTC"}}, "window"),
        ("property:comments", "x" * 257, ""),
        ("property:comments", "\x00", ""),
        ("property:name", "other", ""),
    ],
)
def test_what_breaks_a_rule_is_told_where(key: str, value: Any, where: str) -> None:
    found = modules.obstacle(key, value)
    assert found is not None
    assert found[0] == where


def test_what_is_at_its_default_is_left_out() -> None:
    full = {
        "type": "nginx",
        "connection": "local",
        "settings": {"a": None, "b": 1},
        "connection_settings": {},
        "install": "auto",
        "credential": None,
        "window": {"cron": "0 2 * * 6", "zone": "UTC", "minutes": 60},
    }
    assert modules.normal(full) == {
        "type": "nginx",
        "settings": {"b": 1},
        "window": {"cron": "0 2 * * 6"},
    }
    assert modules.obstacle("endpoint:a", modules.normal(full)) is None
