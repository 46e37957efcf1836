"""Signatures, calldata and answers: published selectors, eth-abi as the oracle, and answers that must not decode."""

import eth_abi.abi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.chain.abi import function, revert_reason
from aggregator.chain.answers import Answers, Failure
from aggregator.chain.events import RawLog, decode_logs, event, topic_word
from aggregator.core.errors import ConfigError, MalformedAnswerError


def decode_one(sig: str, blob: bytes):
    return function(sig).decode(Answers.of([blob]), np.zeros(1, dtype=np.int64))[0]


@pytest.mark.parametrize(
    ("sig", "selector"),
    [  # selectors as in the 4byte directory / Etherscan
        ("balanceOf(address)(uint256)", "70a08231"),
        ("transfer(address,uint256)(bool)", "a9059cbb"),
        ("function getUserAccountData(address user) external view returns (uint256,uint256 b)", "bf92857c"),
        ("aggregate3((address target,bool allowFailure,bytes callData)[])((bool,bytes)[])", "82ad56cb"),
        ("symbol()", "95d89b41"),
        ("latestRoundData()(uint80,int256,uint256,uint256,uint80)", "feaf968c"),
        ("mint(uint)(uint)", "a0712d68"),
    ],
)
def test_selectors_are_the_published_ones(sig, selector):
    assert function(sig).selector.hex() == selector


def test_names_locations_and_tuples_are_understood():
    one = function("f(tuple(uint a, address[2] b)[] calldata xs, bytes memory y)((int24,bool) z, string)")
    assert one.inputs == ("(uint256,address[2])[]", "bytes")
    assert one.outputs == ("(int24,bool)", "string")


@pytest.mark.parametrize(
    "sig",
    [
        "",
        "balanceOf",
        "f(uint7)",
        "f(uint256",
        "f(uint256)(",
        "f(adress)",
        "(uint256)",
        "f(,)",
        "9f()",
        "f-g()",
        "f()x()y",
        "f()(uint256[99999999999])",
        "f()(uint256[1000][1000])",
        "f()(" + "(" * 40 + "uint256" + ")" * 40 + ")",
    ],
)
def test_a_broken_signature_is_named(sig):
    with pytest.raises(ConfigError) as caught:
        function(sig)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize(
    ("sig", "args"),
    [
        ("f(uint8)", (256,)),
        ("f(uint8)", (-1,)),
        ("f(uint8)", (True,)),
        ("f(uint8)", ("1",)),
        ("f(int8)", (128,)),
        ("f(address)", ("0x12",)),
        ("f(address)", (7,)),
        ("f(bool)", (1,)),
        ("f(bytes4)", (b"12345",)),
        ("f(uint256)", ()),
        ("f(uint256,string)", (1, 2)),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(sig, args):
    with pytest.raises(ConfigError, match="fit"):
        function(sig).encode(args)


LEAVES = {
    **{f"uint{b}": st.integers(0, 2**b - 1) for b in (8, 24, 64, 72, 128, 160, 192, 200, 256)},
    **{f"int{b}": st.integers(-(2 ** (b - 1)), 2 ** (b - 1) - 1) for b in (8, 24, 64, 72, 128, 192, 256)},
    "bool": st.booleans(),
    "address": st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
    "bytes4": st.binary(min_size=4, max_size=4),
    "bytes32": st.binary(min_size=32, max_size=32),
}
DYNAMIC = {"string": st.text("abc é☃\0", max_size=40), "bytes": st.binary(max_size=70)}


def typed(leaves):
    base = st.sampled_from(sorted(leaves)).map(lambda name: (name, leaves[name]))

    def grow(inner):
        arrays = st.tuples(inner, st.integers(1, 3)).map(lambda p: (f"{p[0][0]}[{p[1]}]", st.tuples(*[p[0][1]] * p[1])))
        tuples = st.lists(inner, min_size=1, max_size=3).map(
            lambda ps: (f"({','.join(name for name, _ in ps)})", st.tuples(*(values for _, values in ps)))
        )
        return arrays | tuples

    return st.recursive(base, grow, max_leaves=5)


@given(st.data())
def test_static_answers_decode_as_eth_abi_does(data):
    columns = data.draw(st.lists(typed(LEAVES), min_size=1, max_size=4))
    types = [name for name, _ in columns]
    one = function(f"f()({','.join(types)})")
    rows = data.draw(st.lists(st.tuples(*(values for _, values in columns)), min_size=1, max_size=6))
    blobs = [eth_abi.abi.encode(types, row) for row in rows]
    assert one.static_size == len(blobs[0])
    assert (
        one.decode(Answers.of(blobs), np.arange(len(rows)))
        == [eth_abi.abi.decode(types, blob) for blob in blobs]
        == rows
    )


@given(st.data())
def test_arguments_encode_and_dynamic_answers_decode_as_eth_abi_does(data):
    columns = data.draw(st.lists(typed(LEAVES | DYNAMIC), min_size=1, max_size=4))
    types = [name for name, _ in columns]
    values = data.draw(st.tuples(*(strategy for _, strategy in columns)))
    one = function(f"f({','.join(types)})({','.join(types)})")
    encoded = eth_abi.abi.encode(types, values)
    assert one.encode(values) == one.selector + encoded
    assert decode_one(one.sig, encoded) == eth_abi.abi.decode(types, encoded)


@given(typed(LEAVES).flatmap(lambda t: st.tuples(st.just(t[0]), st.lists(t[1], max_size=5))))
def test_arrays_of_static_items_decode_as_eth_abi_does(case):
    name, items = case
    encoded = eth_abi.abi.encode([f"{name}[]"], [items])
    assert decode_one(f"f()({name}[])", encoded) == (tuple(items),)
    assert isinstance(decode_one(f"f()({name}[])", encoded[:-1]), Failure)
    assert isinstance(decode_one(f"f()({name}[])", encoded + b"\0"), Failure)


@pytest.mark.parametrize(
    ("sig", "words"),
    [
        ("f()(uint8)", [256]),
        ("f()(uint128)", [2**128]),
        ("f()(uint192)", [2**192]),
        ("f()(int8)", [128]),
        ("f()(int8)", [2**256 - 129]),
        ("f()(int128)", [2**255]),
        ("f()(bool)", [2]),
        ("f()(bool)", [2**64]),
        ("f()(address)", [2**160]),
        ("f()(bytes4)", [1]),
        ("f()(uint256,bool)", [1, 3]),
        ("f()(uint256)", [1, 2]),
        ("f()(uint256,uint256)", [1]),
        ("f()((uint8,bool)[])", [32, 1, 300, 1]),
        ("f()(uint256[])", [32, 2**255]),
        ("f()(string)", [32, 2**40]),
        ("f()(string)", [2**200]),
    ],
)
def test_words_outside_their_type_and_wrong_lengths_never_become_values(sig, words):
    blob = b"".join(word.to_bytes(32, "big") for word in words)
    found = decode_one(sig, blob)
    assert isinstance(found, Failure)
    assert found.reason.startswith("malformed answer")


def test_one_malformed_answer_spoils_no_neighbour():
    good, bad = (5).to_bytes(32, "big"), (999).to_bytes(32, "big")
    found = function("f()(uint8)").decode(Answers.of([good, bad, good, b"\0" * 31, good]), np.arange(5))
    assert ["bad" if isinstance(f, Failure) else f for f in found] == [(5,), "bad", (5,), "bad", (5,)]


def test_joined_answers_keep_their_places():
    parts = [Answers.of([b"\x01" * 32, Failure("no")]), Answers.of([b"abc", b"\x02" * 64])]
    joined = Answers.join(parts)
    assert [joined.blob(i) for i in range(4)] == [b"\x01" * 32, Failure("no"), b"abc", b"\x02" * 64]
    assert [joined.part(1, 3).blob(i) for i in range(2)] == [Failure("no"), b"abc"]


def test_revert_reasons_are_read_and_bounded():
    error = bytes.fromhex("08c379a0") + eth_abi.abi.encode(["string"], ["HEALTH\x00_FACTOR" + "x" * 70_000])
    assert revert_reason(error).startswith("HEALTH _FACTOR")
    assert len(revert_reason(error)) == 256
    assert revert_reason(bytes.fromhex("4e487b71") + (17).to_bytes(32, "big")) == "panic 0x11"
    assert revert_reason(bytes.fromhex("deadbeef00")) == "custom error 0xdeadbeef"
    assert revert_reason(bytes.fromhex("08c379a0ff")) == "malformed Error(string)"
    assert revert_reason(b"", "out of gas") == "out of gas"


TRANSFER = "Transfer(address indexed from,address indexed to,uint256 value)"
NFT = "Transfer(address indexed from,address indexed to,uint256 indexed tokenId)"


def transfer_log(topics: int, data: bytes) -> RawLog:
    words = [event(TRANSFER).topic, *(bytes(12) + bytes([i]) * 20 for i in range(1, topics))]
    return RawLog("0x" + "cc" * 20, tuple(words), data, 7, 0, "0x" + "00" * 32)


def test_the_topic_of_transfer_is_the_published_one():
    assert event(TRANSFER).topic.hex() == "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


def test_logs_decode_by_name_in_declared_order():
    log = decode_logs([TRANSFER], [transfer_log(3, (9).to_bytes(32, "big"))], any_contract=False)[0]
    assert log.event == "Transfer"
    assert log.args == {"from": "0x" + "01" * 20, "to": "0x" + "02" * 20, "value": 9}
    assert list(log.args) == ["from", "to", "value"]


def test_erc20_and_erc721_transfers_share_a_topic_and_are_told_apart():
    logs = [transfer_log(3, (9).to_bytes(32, "big")), transfer_log(4, b"")]
    both = decode_logs([TRANSFER, NFT], logs, any_contract=False)
    assert [sorted(log.args) for log in both] == [["from", "to", "value"], ["from", "to", "tokenId"]]
    assert len(decode_logs([NFT], logs, any_contract=True)) == 1
    with pytest.raises(MalformedAnswerError, match="not as declared"):
        decode_logs([NFT], logs, any_contract=False)


def test_indexed_strings_come_as_their_hash_and_plain_ones_as_text():
    sig = "Named(string indexed key,string text,(uint8,bool) pair)"
    data = eth_abi.abi.encode(["string", "(uint8,bool)"], ["hé", (3, True)])
    log = RawLog("0x" + "cc" * 20, (event(sig).topic, b"\x07" * 32), data, 1, 0, "0x")
    assert decode_logs([sig], [log], any_contract=False)[0].args == {
        "key": b"\x07" * 32,
        "text": "hé",
        "pair": (3, True),
    }


@pytest.mark.parametrize(
    "sig",
    ["", "Transfer", "E(", "Transfer(address,uint256 x)", "T(uint256 a,uint256 a)", "T(uint256 indexed)",
     "E(uint256 a)x", "9E(uint256 a)", "E(" + ",".join(f"address indexed a{i}" for i in range(4)) + ")"],
)  # fmt: skip
def test_a_broken_event_is_named(sig):
    with pytest.raises(ConfigError):
        event(sig)


def test_topics_are_words_or_addresses():
    assert topic_word("0x" + "AB" * 20) == "0x" + "00" * 12 + "ab" * 20
    with pytest.raises(ConfigError):
        topic_word("0x12")
