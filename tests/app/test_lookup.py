"""What a person types to name a cut or an account: every way that works, and what is said where none does."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.app.demo import Demo
from aggregator.app.wiring import App
from aggregator.core.errors import ConfigError

BOOK = {
    "markets": "market,rule\nmain,compound_v2@1\n",
    "collateral": "market,asset,liquidation_threshold\nmain,ETH,0.8\n",
    "prices": "asset,price_usd\nETH,2000\nUSDC,1\n",
    "positions": "market,account,asset,side,amount\nmain,alice,ETH,collateral,10\nmain,alice,USDC,debt,14000\n",
}


def test_a_cut_is_found_by_digest_block_and_time(demo: Demo) -> None:
    with App.open(demo.config) as app:
        (cut,) = app.cuts()
        names = [cut.digest, cut.digest[:4], cut.digest[:12].upper(), str(cut.time_s), str(cut.time_s + 86_400)]
        for at in ["", *names, *(str(block.number) for block in cut.blocks)]:
            assert app.snapshot(at).cut.digest == cut.digest


def test_an_unknown_cut_is_told_every_way_to_name_one(demo: Demo) -> None:
    with App.open(demo.config) as app:
        (cut,) = app.cuts()
        for at in ("foo", "2025-06-22", "7", str(cut.time_s - 86_400)):
            with pytest.raises(ConfigError, match="no such cut") as raised:
                app.snapshot(at)
            assert raised.value.found == at
            told = raised.value.expected
            assert all(str(word) in told for word in (cut.digest[:12], cut.time_s, *(b.number for b in cut.blocks)))


def test_an_account_of_a_book_is_named_with_the_nearest(tmp_path: Path) -> None:
    config, book = tmp_path / "config.toml", tmp_path / "book"
    config.write_text(f'[store]\nurl = "sqlite:///{tmp_path / "store.db"}"\n')
    book.mkdir()
    for name, text in BOOK.items():
        (book / f"{name}.csv").write_text(text)
    with App.open(config) as app:
        app.import_book(book)
        assert app.wallet("alice")["positions"][0]["health_factor"].startswith("1.142857")
        with pytest.raises(ConfigError, match="did you mean 'alice'"):
            app.wallet("alic")
