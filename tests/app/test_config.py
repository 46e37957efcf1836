"""Configuration is checked whole, before anything runs, and names what is nearest to what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.app.address import typed_address
from aggregator.app.config import data_dir, load_config, parse_config
from aggregator.core.errors import ConfigError

CONTRACT = """
[store]
url = "sqlite:///spillover.db"
[[chains]]
id = 1
rpc = ["http://127.0.0.1:8545"]
finality = "finalized"
multicall = "0xcA11bde05977b3631167028862bE2a173976CA11"
[[deployments]]
adapter = "aave_v3"
chain = 1
name = "core"
start_block = 0
addresses = { pool_addresses_provider = "0x2f39d218133AFaB8F2B819B1066c7E434Ad94E9e" }
"""


def test_the_documented_contract_is_read_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(CONTRACT)
    config = load_config(file, env={})
    assert config.store.url == "sqlite:///spillover.db"
    assert config.chain(1).rpc == ("http://127.0.0.1:8545",)
    (row,) = config.deployments
    assert (row.adapter, row.source, row.name) == ("aave_v3", "eip155:1", "core")
    assert row.addresses["pool_addresses_provider"] == "0x2f39d218133afab8f2b819b1066c7e434ad94e9e"


def test_the_environment_overrides_endpoints_and_store(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(CONTRACT)
    env = {"SPILLOVER_RPC_1": "http://127.0.0.1:1, http://127.0.0.1:2", "SPILLOVER_STORE_URL": "sqlite:///other.db"}
    config = load_config(file, env)
    assert config.chain(1).rpc == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert config.store.url == "sqlite:///other.db"


def test_the_shipped_default_names_real_deployments_and_leaves_out_chains_without_endpoint() -> None:
    config = load_config(data_dir("config") / "default.toml", env={"SPILLOVER_RPC_8453": "http://127.0.0.1:1"})
    assert {c.id for c in config.chains} >= {1, 10, 42161, 8453}
    readable = config.readable()
    assert {c.id for c in readable.chains} == {8453}
    assert {d.source for d in readable.deployments} <= {"eip155:8453", "venue:deribit"}
    assert any(d.adapter == "aave_v3" for d in readable.deployments)


@pytest.mark.parametrize(
    ("change", "found", "hint"),
    [
        (("[store]\nurl", "[store]\nurll"), "urll", "did you mean 'url'?"),
        (("[[chains]]", "[[chain]]"), "chain", "did you mean 'chains'?"),
        (('"finalized"', '"final"'), "'final'", ""),
        (('"http://127.0.0.1:8545"', '"ftp://secret@host"'), "ftp", ""),
        (('"http://127.0.0.1:8545"', '"eth.example/v2/secret"'), "no scheme", "SPILLOVER_RPC_1"),
        (('["http://127.0.0.1:8545"]', '"http://127.0.0.1:8545/v2/secret"'), "str", ""),
        (('["http://127.0.0.1:8545"]', '["http://127.0.0.1:8545/v2/secret", 1]'), "list", ""),
        (('[[chains]]\nid = 1\nrpc = ["', '[chains]\nid = 1\nrpc = ["http://secret@h", "'), "[chains]", ""),
        (("id = 1\n", "id = 1\ntimeout_s = nan\n"), "nan", ""),
        (("id = 1\n", "id = 1\nmax_per_s = 0\n"), "0", ""),
        (("id = 1\n", "id = 0\n"), "0", ""),
        (("[store]", "[collect]\nslice_size = 0\n[store]"), "0", ""),
        (("[store]", "[collect]\nallowed_gap_frac = -0.1\n[store]"), "-0.1", ""),
        (("[store]", "[schedule]\ninterval_s = 0\n[store]"), "0", ""),
        (("[store]", "[schedule]\nscenarios = [1]\n[store]"), "[1]", ""),
        (("start_block = 0", "start_block = true"), "true", ""),
        (('name = "core"', 'name = "co/re"'), "co/re", ""),
        (("94E9e", "94E9E"), "94E9E", "copy it again"),
        (("id = 1\n", 'id = "one"\n'), "'one'", ""),
        (("chain = 1", "chain = 7"), "eip155:7", "add [[chains]] id = 7"),
        (("0x2f39d218133AFaB8F2B819B1066c7E434Ad94E9e", "0x12"), "0x12", ""),
        (("start_block = 0", "start_block = -4"), "-4", ""),
        (('name = "core"', ""), "nothing", ""),
        (('adapter = "aave_v3"\n', 'adapter = "aave_v3"\nchian = 2\n'), "", ""),
    ],
)
def test_a_wrong_configuration_says_what_was_found(
    tmp_path: Path, change: tuple[str, str], found: str, hint: str
) -> None:
    file = tmp_path / "c.toml"
    text = CONTRACT.replace(*change)
    assert text != CONTRACT
    file.write_text(text)
    if "chian" in text:  # keys of a deployment that we do not know belong to its adapter
        assert load_config(file, env={}).deployments[0].options == {"chian": 2}
        return
    with pytest.raises(ConfigError) as error:
        load_config(file, env={})
    assert found in error.value.found
    assert hint in error.value.fix
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("key", ["eth.example/v2/SECRET", "SECRET", "wss://host/SECRET"])
def test_an_endpoint_in_the_environment_that_is_none_is_not_repeated(tmp_path: Path, key: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(CONTRACT)
    with pytest.raises(ConfigError) as error:
        load_config(file, {"SPILLOVER_RPC_1": key})
    assert "SECRET" not in str(error.value)


def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b"\xef\xbb\xbf" + CONTRACT.replace("\n", "\r\n").encode())
    assert load_config(file, env={}).chain(1).id == 1


@pytest.mark.parametrize(
    "address",
    [  # EIP-55's own test cases: all caps, all lower, normal
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_checksums_are_those_of_eip_55(address: str) -> None:
    assert typed_address(f" {address} ") == address.lower()
    if address[2:] not in (address[2:].lower(), address[2:].upper()):
        with pytest.raises(ConfigError, match="checksum"):
            typed_address("0x" + address[2:].swapcase())


def test_unreadable_files_are_usage_errors(tmp_path: Path) -> None:
    binary, deep, long = tmp_path / "c.toml", tmp_path / "deep.toml", tmp_path / "long.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    deep.write_text("x = " + "[" * 5000 + "]" * 5000)
    long.write_text("x = 1" + "0" * 5000)
    for file in (binary, deep, long, tmp_path / "absent.toml"):
        with pytest.raises(ConfigError) as error:
            load_config(file, env={})
        assert error.value.exit_code == 2


def test_a_deployment_named_twice_is_refused() -> None:
    row = {"adapter": "aave_v3", "chain": 1, "name": "core"}
    with pytest.raises(ConfigError, match="twice"):
        parse_config({"chains": [{"id": 1}], "deployments": [row, row]})


def test_one_contract_read_by_two_deployments_is_refused() -> None:
    """All that it holds would be counted twice. Two lists of pools of one factory are two things."""
    address = "0x2f39d218133AFaB8F2B819B1066c7E434Ad94E9e"
    rows = [
        {"adapter": "aave_v3", "chain": 1, "name": name, "addresses": {"pool_addresses_provider": spelt}}
        for name, spelt in (("core", address), ("mine", address.lower()))
    ]
    with pytest.raises(ConfigError, match="twice") as error:
        parse_config({"chains": [{"id": 1}], "deployments": rows})
    assert address.lower() in error.value.found
    rows[1]["chain"] = 10
    pools = [
        {"adapter": "uniswap_v3", "chain": 1, "name": name, "addresses": {"factory": address}, "pools": [name]}
        for name in ("a", "b")
    ]
    parse_config({"chains": [{"id": 1}, {"id": 10}], "deployments": [*rows, *pools]})
