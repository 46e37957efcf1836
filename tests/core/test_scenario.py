"""A stress as data: what a person gets wrong is named with the nearest right thing."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import ConfigError, ScenarioError
from aggregator.core.scenario import Conventions, Scenario, load_scenario, parse_scenario

GOOD = """
name = "ETH -30 %"
[price]
"eip155:1/slip44:60" = -0.3
[depth]
"*" = 0.5
[conventions]
rounds = "sequential"
max_rounds = 7
"""


@pytest.mark.parametrize("mark", ["", "\N{ZERO WIDTH NO-BREAK SPACE}"])  # some editors begin a file with one
def test_a_file_is_read_as_written(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(mark + GOOD, "utf-8")
    found = load_scenario(path)
    assert found == Scenario(
        "ETH -30 %",
        price={"eip155:1/slip44:60": -0.3},
        depth={"*": 0.5},
        conventions=Conventions(rounds="sequential", max_rounds=7),
    )
    assert parse_scenario(found.plain()) == found


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"name": "x", "prices": {}}, ["unknown key 'prices'", "did you mean 'price'"]),
        ({"name": "x", "conventions": {"round": "batch"}}, ["unknown key 'round'", "did you mean 'rounds'"]),
        ({"name": "x", "conventions": {"rounds": "parallel"}}, ["batch or sequential"]),
        ({"name": "x", "conventions": {"max_rounds": 0}}, ["max_rounds must be positive"]),
        ({"name": "x", "conventions": {"max_rounds": 1.5}}, ["max_rounds has the wrong type"]),
        ({"name": "x", "conventions": {"max_rounds": True}}, ["max_rounds has the wrong type"]),
        ({"name": "x", "conventions": {"capacity_accounts": -1}}, ["capacity_accounts is negative"]),
        ({"name": "x", "conventions": {"recovery_frac": 1.1}}, ["recovery_frac is out of range"]),
        ({"name": "x", "conventions": []}, ["conventions is not a table"]),
        ({"name": "x", "price": -0.3}, ["price is not a table"]),
        ({"name": "x", "price": {"ETH": -30}}, ["price.ETH is out of range", "did you mean -0.3?", "-0.3 is -30 %"]),
        ({"name": "x", "price": {"ETH": 30}}, ["price.ETH is out of range", "found: 30", "did you mean 0.3?"]),
        ({"name": "x", "price": {"ETH": -30.5}}, ["did you mean -0.305?"]),
        ({"name": "x", "price": {"ETH": 10**400}}, ["price.ETH is out of range", "-0.3 is -30 %"]),
        ({"name": "x", "price": {"ETH": 10**5000}}, ["price.ETH is out of range", "5000 digits"]),
        ({"name": "x", "price": {"ETH": 1e300}}, ["price.ETH is out of range", "from -1 to 10", "1e+300"]),
        ({"name": "x", "price": {"ETH": math.nan}}, ["price.ETH is out of range", "found: nan"]),
        ({"name": "x", "price": {"ETH": "-30%"}}, ["price.ETH is no number", "found: '-30%'"]),
        ({"name": "x", "price": {"ETH": True}}, ["price.ETH is no number", "found: true"]),
        ({"name": "x", "price": {"ETH": None}}, ["price.ETH is no number", "found: nothing"]),
        ({"name": "x", "vol": {"ETH": 40}}, ["vol.ETH is out of range", "did you mean 0.4?", "0.2 is 20 points"]),
        ({"name": "x", "vol": {"ETH": -50}}, ["vol.ETH is out of range", "did you mean -0.5?"]),
        ({"name": "x", "depth": {"*": 50}}, ["depth.* is out of range", "did you mean 0.5?", "0.5 is half of it"]),
        ({"name": "x", "depth": {"WETH": -0.5}}, ["depth.WETH is out of range", "share of the depth that is gone"]),
        ({"name": "x", "depeg": {"svETH": 94}}, ["depeg.svETH is out of range", "did you mean 0.94?", "6 % below"]),
        ({"name": "x", "depeg": {"svETH": 6}}, ["depeg.svETH is out of range", "0.94 is 6 % below it"]),
        ({"name": "x", "conventions": {"rounds": None}}, ["rounds has the wrong type", "found: nothing"]),
        ({"name": "x", "depth": None}, ["depth is not a table", "found: nothing"]),
        ({"name": "x", "description": None}, ["description is no text", "found: nothing"]),
        ({"name": None}, ["scenario has no name", "found: nothing"]),
        ({"name": "x", "description": 5}, ["description is no text"]),
        ({"name": "x", "depth": {"*": 1.01}}, ["depth.* is out of range"]),
        ({"name": "x", "depeg": {"stETH": -0.1}}, ["depeg.stETH is out of range"]),
        ({}, ["scenario has no name", "found: nothing"]),
        ({"name": ""}, ["scenario has no name"]),
    ],
)
def test_what_is_wrong_is_named(data: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(data)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.exit_code == ConfigError.exit_code == 2
    assert set(caught.value.problem()) == {"type", "title", "detail", "code", "expected", "found", "fix"}
    assert caught.value.fix
    assert "None" not in str(caught.value)


@pytest.mark.parametrize("data", [b"name = ", b"\xff\xfe", None])
def test_unreadable_files_are_named(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "s.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ScenarioError, match=r"cannot read scenario s\.toml"):
        load_scenario(path)


@given(st.dictionaries(st.text(max_size=5), st.floats(-1, 10), max_size=4))
def test_the_digest_is_of_the_content(price: dict[str, float]) -> None:
    one = Scenario("x", price=price)
    assert one.digest == Scenario("x", price=dict(reversed(price.items()))).digest
    assert one.digest != Scenario("x", price={**price, "other": 0.5}).digest or price.get("other") == 0.5


# a scenario of today, and other ways to write it that say no more
_SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"description": ""}),
    ({}, {"price": {}, "vol": {}, "depth": {}, "depeg": {}, "conventions": {}}),
    ({}, {"conventions": asdict(Conventions())}),
    ({}, {"conventions": {"recovery_frac": 0}}),
    ({"conventions": {"recovery_frac": 1.0}}, {"conventions": {"recovery_frac": 1, "rounds": "batch"}}),
    ({"price": {"A": -1.0, "B": 0.0}}, {"price": {"B": -0.0, "A": -1}}),
]


@pytest.mark.parametrize(("said", "also"), _SAME)
def test_defaults_written_out_rename_nothing(said: dict[str, Any], also: dict[str, Any]) -> None:
    one, other = (parse_scenario({"name": "x", **data}) for data in (said, also))
    assert one.digest == other.digest
    assert json.dumps(one.plain(), sort_keys=True) == json.dumps(other.plain(), sort_keys=True)


def test_a_kind_of_move_that_a_later_version_adds_renames_nothing() -> None:
    @dataclass(frozen=True, slots=True)
    class Later(Scenario):
        mint: dict[str, float] = field(default_factory=dict)
        horizon_s: int = 0

    told: dict[str, Any] = {"price": {"WETH": -0.3}, "conventions": Conventions(max_rounds=7)}
    assert Later("x", **told).digest == Scenario("x", **told).digest
    assert Later("x", **told, mint={"WETH": 1.0}).digest != Scenario("x", **told).digest
    assert Later("x", **told, horizon_s=60).digest != Scenario("x", **told).digest


def test_each_move_and_convention_is_in_the_name() -> None:
    moves = [{table: {"A": 0.25}} for table in ("price", "vol", "depth", "depeg")]
    moves += [{"conventions": {"rounds": "sequential"}}, {"conventions": {"profit_test": False}}]
    moves += [{"conventions": {key: 1}} for key in ("capacity_accounts", "max_rounds", "recovery_frac")]
    moves += [{"description": "d"}, {"name": "y"}, {}]
    assert len({parse_scenario({"name": "x", **move}).digest for move in moves}) == len(moves)
