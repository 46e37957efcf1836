"""Recordings: whole or refused, free of secrets, and indifferent to the order in which they were made."""

import gzip
import json

import pytest

from aggregator.chain.answers import Failure
from aggregator.chain.events import RawLog
from aggregator.chain.logs import LogFilter
from aggregator.chain.recording import Recording
from aggregator.core.block import BlockRef
from aggregator.core.errors import RecordingError

AT = BlockRef("eip155:1", 100, "0x" + "ab" * 32, 1_700_000_000, "finalized")
LATER = BlockRef("eip155:1", 130, "0x" + "cd" * 32, 1_700_000_360, "finalized")
VENUE = BlockRef("venue:deribit", 1_700_000_000_123_456, "", 1_700_000_000, "venue")
TO = "0x" + "11" * 20
TRANSFER = "Transfer(address indexed from,address indexed to,uint256 value)"
CALLS = [((TO, bytes([i])), bytes([i]) * 32) for i in range(40)] + [((TO, b"\xff"), Failure("no", False))]
LOGS = [RawLog(TO, (b"\x01" * 32,), bytes(32), n, 0, "0x" + "ee" * 32) for n in range(5, 50)]
WANTED = LogFilter([TO], [TRANSFER], ())


def record(calls=CALLS, chunk: int = 7) -> Recording:
    out = Recording()
    for at in (LATER, AT, VENUE):
        out.add_block(at)
    for i in range(0, len(calls), chunk):
        out.add_calls(AT, *zip(*calls[i : i + chunk], strict=True))
    out.add_logs(AT, WANTED, 5, LOGS)
    out.add_http(VENUE, "GET /public/get_time", "", '{"result": 1.50}')
    return out


def test_the_file_does_not_depend_on_batching_or_order(tmp_path):
    record().save(tmp_path / "a.gz")
    record(CALLS[::-1], chunk=3).save(tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert not (tmp_path / "a.gz.part").exists()


def test_what_was_recorded_comes_back(tmp_path):
    record().save(tmp_path / "r.gz")
    found = Recording.load(tmp_path / "r.gz")
    assert found.blocks() == sorted([AT, LATER, VENUE])
    assert found.blocks("eip155:1") == [AT, LATER]
    assert found.at("eip155:1") == LATER
    assert found.at("eip155:1", 100) == AT
    assert found.calls(AT) == dict(CALLS)
    assert found.calls(LATER) == {}
    assert found.logs(AT, WANTED, 5) == LOGS
    assert found.logs(AT, WANTED, 40) == LOGS[35:]
    assert found.logs(AT, WANTED, 101) == []
    assert found.http(VENUE, "GET /public/get_time", "") == '{"result": 1.50}'
    assert found.http_digest(VENUE) == record().http_digest(VENUE)


def test_a_missing_answer_is_named(tmp_path):
    record().save(tmp_path / "r.gz")
    found = Recording.load(tmp_path / "r.gz")
    with pytest.raises(RecordingError, match=r"r\.gz lacks an answer of eip155:1[\s\S]*in \[4, 100\]"):
        found.logs(AT, WANTED, 4)
    with pytest.raises(RecordingError, match="any contract"):
        found.logs(AT, LogFilter([], [TRANSFER], ()), 5)
    with pytest.raises(RecordingError, match="ticker"):
        found.http(VENUE, "GET /public/ticker", "")
    with pytest.raises(RecordingError, match="eip155:10"):
        found.at("eip155:10")


def test_two_answers_to_one_call_are_a_lie():
    found = record()
    found.add_calls(AT, [(TO, b"\x01")], [b"\x01" * 32])
    with pytest.raises(RecordingError, match="two answers"):
        found.add_calls(AT, [(TO, b"\x01")], [b"\x02" * 32])


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "r.gz"
    record().save(path)
    whole = path.read_bytes()
    for cut in range(0, len(whole), max(1, len(whole) // 100)):
        path.write_bytes(whole[:cut])
        with pytest.raises(RecordingError, match=r"r\.gz cannot be used"):
            Recording.load(path)


def test_every_flipped_byte_is_refused_or_harmless(tmp_path):
    path = tmp_path / "r.gz"
    record().save(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 0x10
        path.write_bytes(altered)
        try:
            found = Recording.load(path)
        except RecordingError:
            continue
        assert found.calls(AT) == dict(CALLS)  # a byte of the gzip header, such as the operating system
        assert found.logs(AT, WANTED, 5) == LOGS


def rewrite(path, change):
    head, _, payload = gzip.decompress(path.read_bytes()).partition(b"\n")
    header, payload = change(json.loads(head), payload)
    path.write_bytes(gzip.compress(json.dumps(header).encode() + b"\n" + payload))


@pytest.mark.parametrize(
    "change",
    [
        lambda header, payload: (header | {"version": 99}, payload),
        lambda header, payload: (header | {"format": "vcr"}, payload),
        lambda header, payload: (header | {"sha256": "00"}, payload),
        lambda header, payload: (header | {"blocks": [["eip155:1"]]}, payload),
        lambda header, payload: (header | {"entries": 1}, payload),
        lambda header, payload: ([header], payload),
        lambda header, payload: (header, payload.replace(b"0x", b"0y", 1)),
        lambda header, payload: (header, payload[: payload.index(b"\n") + 1]),
    ],
)
def test_another_format_version_or_altered_content_is_refused(tmp_path, change):
    path = tmp_path / "r.gz"
    record().save(path)
    rewrite(path, change)
    with pytest.raises(RecordingError) as caught:
        Recording.load(path)
    assert "fix" in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(RecordingError, match="no such file"):
        Recording.load(tmp_path / "none.gz")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "gz").write_bytes(gzip.compress(b"hello"))
    (tmp_path / "empty").write_bytes(b"")
    for name in ("text", "gz", "empty"):
        with pytest.raises(RecordingError):
            Recording.load(tmp_path / name)


def test_a_recording_can_be_saved_again_unchanged(tmp_path):
    record().save(tmp_path / "a.gz")
    Recording.load(tmp_path / "a.gz").save(tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
