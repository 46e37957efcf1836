"""The array decoder and the multicall codec against eth-abi."""

import eth_abi.abi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.chain.abi import function
from aggregator.chain.aggregate3 import Run, Runs, decode_aggregate3, encode_aggregate3, hex_bytes
from aggregator.chain.decode import Words, decode_static
from aggregator.core.errors import ConfigError, MalformedAnswerError
from aggregator.core.fixed import unpack_u256

EDGES = [0, 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**128 - 1, 2**128, 2**192, 2**255, 2**256 - 1]


def test_edges_are_exact_as_ints_limbs_and_bytes():
    blobs = [eth_abi.abi.encode(["uint256", "int256"], [e, e if e < 2**255 else e - 2**256]) for e in EDGES]
    unsigned, signed = decode_static(["uint256", "int256"], blobs)
    assert unsigned == EDGES
    assert signed == [e if e < 2**255 else e - 2**256 for e in EDGES]
    words = Words.gather(b"".join(blobs), np.arange(len(blobs)) * 64, 2)
    assert [unpack_u256(bytes(row)) for row in words.raw[:, 0]] == EDGES
    assert [sum(int(x) << 64 * (3 - k) for k, x in enumerate(row)) for row in words.limbs[:, 0]] == EDGES


@given(st.lists(st.integers(-(2**255), 2**255 - 1), min_size=1, max_size=20))
def test_signed_columns_of_any_mix_are_exact(values):
    assert decode_static(["int256"], [eth_abi.abi.encode(["int256"], [v]) for v in values]) == [values]


def test_a_bad_blob_is_named():
    good = bytes(32)
    with pytest.raises(MalformedAnswerError, match="answer 1 has the wrong length"):
        decode_static(["uint256"], [good, bytes(31)])
    with pytest.raises(MalformedAnswerError, match="answer 2 is outside"):
        decode_static(["bool"], [good, good, b"\xff" * 32])
    with pytest.raises(ConfigError, match="dynamic"):
        decode_static(["string"], [good])


PAIRS = st.lists(
    st.tuples(st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()), st.binary(max_size=100)),
    min_size=1,
)


@given(PAIRS)
def test_multicall_calldata_is_what_eth_abi_encodes(pairs):
    assert encode_aggregate3(pairs)[4:] == eth_abi.abi.encode(
        ["(address,bool,bytes)[]"], [[(to, True, data) for to, data in pairs]]
    )


@given(PAIRS)
def test_runs_are_the_pairs_they_stand_for(pairs):
    pairs = [(to, data + b"!") for to, data in pairs for _ in range(3)]
    runs = Runs([Run(to, len(data), 3 * data) for to, data in pairs[::3]])
    assert (list(runs), len(runs), runs[1:3]) == (pairs, len(pairs), pairs[1:3])
    assert encode_aggregate3(runs, first=pairs[:2]) == encode_aggregate3([*pairs[:2], *pairs])


RESULTS = st.lists(st.tuples(st.booleans(), st.binary(max_size=100)), min_size=1, max_size=20)


@given(RESULTS)
def test_multicall_answers_are_what_eth_abi_decodes(results):
    success, answers = decode_aggregate3(eth_abi.abi.encode(["(bool,bytes)[]"], [results]), len(results))
    assert list(zip(success.tolist(), [answers.blob(i) for i in range(len(results))], strict=True)) == results


@given(RESULTS, st.data())
def test_an_altered_multicall_answer_never_reads_outside_itself(results, data):
    answer = bytearray(eth_abi.abi.encode(["(bool,bytes)[]"], [results]))
    word = data.draw(st.integers(0, len(answer) // 32 - 1))
    answer[32 * word : 32 * word + 32] = data.draw(st.binary(min_size=32, max_size=32))
    try:
        _, answers = decode_aggregate3(bytes(answer), len(results))
    except MalformedAnswerError:
        return
    assert ((answers.start + answers.size) <= len(answer)).all()


@given(RESULTS, st.integers(1, 64))
def test_a_truncated_multicall_answer_is_refused_or_unchanged(results, cut):
    whole = eth_abi.abi.encode(["(bool,bytes)[]"], [results])
    with pytest.raises(MalformedAnswerError):
        decode_aggregate3(whole[: max(0, len(whole) - 32 * cut)], len(results))


def test_a_multicall_answer_for_another_count_is_refused():
    answer = eth_abi.abi.encode(["(bool,bytes)[]"], [[(True, b""), (True, b"")]])
    for count in (1, 3):
        with pytest.raises(MalformedAnswerError):
            decode_aggregate3(answer, count)


@pytest.mark.parametrize("text", [None, 7, "", "00", "0x0", "0xzz", {}])
def test_hex_is_parsed_strictly(text):
    with pytest.raises(MalformedAnswerError):
        hex_bytes(text)


def test_account_data_decodes_in_bulk():
    rows = [tuple(range(i, i + 6)) for i in range(500)]
    answer = eth_abi.abi.encode(["(bool,bytes)[]"], [[(True, eth_abi.abi.encode(["uint256"] * 6, r)) for r in rows]])
    _, answers = decode_aggregate3(answer, 500)
    one = function("getUserAccountData(address)(uint256,uint256,uint256,uint256,uint256,uint256)")
    assert one.decode(answers, np.arange(500)) == rows
