"""Standard output as it is found: code pages, none at all, a full disk, a reader that went away."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import TextIO

import pytest

from aggregator import cli
from aggregator.app.demo import Demo
from aggregator.app.wiring import App

SYMBOL, HOLDER = "USD\u20ae0", "Caf\u00e9 \u6bd4\u7279\u5e01"
BOOK = {
    "markets": "market,rule\nmain,compound_v2@1\n",
    "collateral": "market,asset,liquidation_threshold\nmain,ETH,0.8\n",
    "prices": f"asset,price_usd,symbol\nETH,2000,WETH\nUSD,1,{SYMBOL}\n",
    "positions": f"market,account,asset,side,amount\nmain,{HOLDER},ETH,collateral,10\nmain,{HOLDER},USD,debt,14000\n"
    f"main,carol and her brother of a long name,USD,supply,2407414.9\n",
}
PAGES = ("ascii", "cp437", "cp1252", "cp932", "utf-16")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    for name, text in BOOK.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    (folder / "c.toml").write_text(f'[store]\nurl = "sqlite:///{folder}/s.db"\n', encoding="utf-8")
    with App.open(folder / "c.toml") as app:
        app.import_book(folder)
    return folder / "c.toml"


def run(stdout: TextIO | None, stderr: TextIO | None, *words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["spillover", *words])
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


VERBS = (
    ["wallet", HOLDER],
    ["stress", "eth_down_30"],
    ["exposure", SYMBOL],
    ["explain", "wallet", HOLDER, "health_factor"],
    ["wallet", "nobody \u2026"],
    ["doctor"],
    ["explain", "SPL-100"],
)


def said(config: Path, encoding: str) -> list[tuple[int, str]]:
    """Code and standard output of every verb, as text and as JSON."""
    out = []
    for words in VERBS:
        for more in ([], ["--json"]):
            stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
            code = run(stdout, stderr, *words, *([] if "SPL-100" in words else ["--config", str(config)]), *more)
            stdout.flush()
            out.append((code, stdout.buffer.getvalue().decode(encoding)))  # type: ignore[attr-defined]
    return out


@pytest.fixture(scope="module")
def in_utf_8(config: Path) -> list[tuple[int, str]]:
    return said(config, "utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_ends_in_every_code_page_and_json_says_the_same_in_all(
    config: Path, in_utf_8: list[tuple[int, str]], page: str
) -> None:
    for at, ((code, text), (wanted, plain)) in enumerate(zip(said(config, page), in_utf_8, strict=True)):
        assert code == wanted == (2 if "nobody" in VERBS[at // 2][-1] else 0), text
        if at % 2:
            assert text.isascii()
            answers = [json.loads(x) for x in (text, plain)]
            for answer in answers:
                if isinstance(answer, dict):
                    answer.pop("age_s", None)
            assert answers[0] == answers[1]
            assert VERBS[at // 2][0] != "exposure" or answers[0]["symbol"] == SYMBOL
        else:
            assert len(text.splitlines()) == len(plain.splitlines())
            assert "defect" not in text


@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("words", [["wallet", HOLDER], ["stress", "eth_down_30"], ["nonsense"], ["--help"]])
def test_a_full_standard_output_is_told_in_one_line_and_fails(
    config: Path, words: list[str], more: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    stderr = io.StringIO()
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - the file that is always full
        code = run(full, stderr, *words, *(["--config", str(config)] if len(words) > 1 else []), *more)
        full.flush()  # as the interpreter does at its end
    told = stderr.getvalue()
    usage = words == ["nonsense"] or (words == ["--help"] and more)
    wrote = not usage or more  # a usage error goes to standard error, but as JSON
    assert code == (2 if usage else 1)
    assert ("standard output cannot be written" in told) == bool(wrote)
    assert not wrote or os.strerror(errno.ENOSPC) in told
    assert "Traceback" not in told


def test_an_answer_longer_than_any_buffer_is_told_as_well(demo: Demo) -> None:
    stderr = io.StringIO()
    for words in (["stress", "eth_down_30", "--json"], ["stress", "eth_down_30"]):
        with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
            assert run(full, stderr, *words, "--config", str(demo.config)) == 1
    assert stderr.getvalue().count("standard output cannot be written") == 2
    assert "Traceback" not in stderr.getvalue()


def test_a_report_that_finds_no_room_is_no_trouble_of_standard_output(config: Path, tmp_path: Path) -> None:
    (tmp_path / "r.html").symlink_to("/dev/full")
    stderr = io.StringIO()
    words = ["stress", "eth_down_30", "--report", str(tmp_path / "r.html"), "--config", str(config)]
    assert run(io.StringIO(), stderr, *words) == 1
    assert "a file cannot be used" in stderr.getvalue()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_closed_standard_output_is_told_before_anything_is_done(config: Path, more: list[str]) -> None:
    stderr = io.StringIO()
    assert run(None, stderr, "wallet", HOLDER, "--config", str(config), *more) == 1
    assert stderr.getvalue().startswith("SPL-000 standard output cannot be written")
    assert run(None, None, "wallet", HOLDER, "--config", str(config), *more) == 1
    assert run(io.StringIO(), None, "wallet", HOLDER, "--config", str(config), *more) == 0


def test_a_reader_that_went_away_ends_it_without_a_word(config: Path) -> None:
    there, ours = os.pipe()
    os.close(there)
    stderr = io.StringIO()
    with os.fdopen(ours, "w", encoding="utf-8") as pipe:
        code = run(pipe, stderr, "stress", "eth_down_30", "--config", str(config), "--json")
        pipe.flush()
    assert stderr.getvalue() == ""
    assert code in (0, 1, 141)
