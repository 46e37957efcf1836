"""The command as a person and a script meet it: exit codes, one error object, nothing heavy before it is needed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from aggregator import cli
from aggregator.app.demo import Demo
from aggregator.report.errors import PAGES, error_page
from tests.cli.calling import Said, call

HELP = (["--help"], ["collect", "--help"], ["colect"])
WATCH = f"""
import sys
from aggregator.cli import main
for words in {HELP!r}:
    sys.argv = ["spillover", *words]
    try:
        main()
    except SystemExit:
        pass
    heavy = {{"web3", "pandas", "numba", "numpy", "scipy", "sqlalchemy", "aiohttp", "plotly"}} & set(sys.modules)
    print("HEAVY", words, sorted(heavy))
"""


@pytest.fixture(scope="module")
def watched() -> str:
    """What an interpreter that has loaded nothing yet says of what each of these loaded."""
    return subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("words", HELP)
def test_help_and_usage_errors_load_no_numeric_or_chain_library(watched: str, words: list[str]) -> None:
    assert f"HEAVY {words} []" in watched


@pytest.fixture
def spillover(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """The command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    return partial(call, capsys)


def test_usage_errors_exit_with_2_and_suggest(spillover: Callable[..., Said]) -> None:
    said = spillover("colect")
    assert said.code == 2
    assert "collect" in said.err


def test_errors_are_one_json_object_when_json_is_asked(spillover: Callable[..., Said]) -> None:
    said = spillover("wallet", "0x12", "--json")
    problem = json.loads(said.out)
    assert said.code == 2
    assert problem["code"] == "SPL-100"
    assert problem["found"] == "0x12"
    assert {"type", "title", "detail", "expected", "fix"} <= set(problem)


def test_an_unreadable_configuration_exits_with_2(spillover: Callable[..., Said]) -> None:
    Path("c.toml").write_text("[store\n")
    assert [spillover("collect", "--config", name).code for name in ("c.toml", "absent.toml")] == [2, 2]


def test_a_key_in_an_endpoint_never_shows(spillover: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        '[[chains]]\nid = 1\nrpc = ["http://127.0.0.1:9/v2/SECRETKEY"]\ntimeout_s = 0.3\ndeadline_s = 0.3\n'
        '[[deployments]]\nadapter = "aave_v3"\nchain = 1\nname = "core"\n'
        'addresses = { pool_addresses_provider = "0x2f39d218133AFaB8F2B819B1066c7E434Ad94E9e" }\n'
    )
    for words in (["collect"], ["collect", "--json"], ["doctor"], ["doctor", "--json"]):
        said = spillover(*words, "--config", "c.toml")
        assert said.code == 1
        assert "SECRETKEY" not in said.out + said.err
    for file in tmp_path.iterdir():
        assert b"SECRETKEY" not in file.read_bytes() or file.name == "c.toml"


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        (["wallet", "[/x]"], 2, "[/x]"),  # rich would read a closing tag
        (["wallet", "[bold]x"], 2, "'[bold]x' holds nothing"),
        (["wallet", ""], 2, "an EVM address"),
        (["wallet", "supply"], 2, "'supply' holds nothing"),
        (["wallet", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD"], 2, "checksum"),
        (["stress", "\x1b[31mx"], 2, "\ufffd[31mx"),
        (["stress", "absent.toml"], 2, "absent.toml"),
        (["stress", "eth_down_30", "--report", "."], 2, "a file name ending in .html"),
        (["stress", "eth_down_30", "--report", "r.json"], 2, "a file name ending in .html"),
        (["stress", "eth_down_30", "--report", "c.toml/r.html"], 2, "cannot write there"),
        (["graph", "-o", "g.svg"], 2, ".graphml"),
        (["graph", "-o", "c.toml/g.json"], 2, "cannot write there"),
        (["record", "c.toml/x.jsonl.gz"], 2, "cannot write there"),
        (["import", "c.toml"], 2, "a folder"),
        (["explain", "walet", "0x12", "health_factor"], 2, "did you mean 'wallet'"),
        (["wallet", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "--at", "7"], 2, "unix time"),
        (["collect"], 2, "SPILLOVER_RPC_1"),
        (["collect", "--dry-run"], 2, "SPILLOVER_RPC_1"),
        (["schedule"], 2, "eth_down"),
    ],
)
def test_what_a_person_gets_wrong_is_said_in_three_lines(
    tmp_path: Path, demo: Demo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str],
    code: int, shown: str,
) -> None:  # fmt: skip
    """On the demo's store, and without any endpoint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(
        f'[store]\nurl = "sqlite:///{demo.store}"\n[[chains]]\nid = 1\n[schedule]\nscenarios = ["eth_down"]\n'
    )
    monkeypatch.setattr(sys, "argv", ["spillover", *words, "--config", "c.toml"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    told = capsys.readouterr().err
    assert stopped.value.code == code, told
    assert shown in told
    assert "expected" in told
    assert "\x1b[31m" not in told


def test_usage_errors_are_json_too(spillover: Callable[..., Said]) -> None:
    said = spillover("wallet", "--json", "--nope")
    assert said.code == 2
    assert "--nope" in json.loads(said.out)["detail"]


@pytest.mark.parametrize("words", [[], ["wallet"], ["wallet", "--config"]])
def test_a_defect_is_told_by_its_place_and_never_by_its_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("http://host/v2/SECRET")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setattr(sys, "argv", ["spillover", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    shown = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "RuntimeError in cli/__init__.py" in shown
    assert "SECRET" not in shown


def test_an_unknown_log_level_is_a_usage_error(spillover: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLOVER_LOG", "loud")
    said = spillover("explain", "SPL-100")
    assert said.code == 2
    assert "DEBUG" in said.err


def test_a_wallet_without_positions_still_says_what_was_not_read(demo: Demo, spillover: Callable[..., Said]) -> None:
    said = spillover("wallet", "0x" + "00" * 19 + "01", "--config", str(demo.config))
    assert said.code == 0
    assert "no position in what was read" in said.out
    assert "11 of 11 deployments were read in full" in said.out


def test_the_demo_says_lines_that_this_shell_can_run(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not on PATH, as after the README's first line: the command's own path."""
    (tmp_path / "my demo").symlink_to(demo.config.parent)
    made = demo._replace(config=Path("my demo/config.toml"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("sys.argv", [str(Path(sys.executable).with_name("spillover")), "demo"])
    monkeypatch.setattr("aggregator.app.demo.run_demo", lambda *_: made)
    cli.demo(Path("my demo"))
    lines = capsys.readouterr().out.splitlines()
    (line,) = (x.strip() for x in lines if " wallet 0x" in x and "explain" not in x and "--config" in x)
    again = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert "health factor" in again.stdout


def test_every_error_code_has_its_page(spillover: Callable[..., Said]) -> None:
    from aggregator.core import errors
    from aggregator.rules import base

    raised = [e for module in (errors, base) for e in vars(module).values() if isinstance(e, type)]
    codes = {e.code for e in raised if issubclass(e, errors.SpilloverError)}
    assert codes == set(PAGES)
    titles = [error_page(code)[0] for code in PAGES]
    assert len(set(titles)) == len(titles)
    assert all(re.fullmatch(r"[A-Z][a-z]*( [a-z]+)+\.", title) for title in titles)
    assert spillover("explain", "spl-210").out.startswith("SPL-210")
    assert json.loads(spillover("explain", "spl-210", "--json").out)["code"] == "SPL-210"
    assert "did you mean 'SPL-210'" in spillover("explain", "SPL-211").err


def test_a_run_without_anything_to_ask_is_refused(
    tmp_path: Path, demo: Demo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No empty recording out of a replay, no cut out of nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.toml").write_text("")
    for words, said in (
        (["record", "again.jsonl.gz", "--config", str(demo.config)], "nothing to record"),
        (["collect", "--config", "empty.toml"], "[[deployments]]"),
    ):
        monkeypatch.setattr(sys, "argv", ["spillover", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert (stopped.value.code, said in capsys.readouterr().err) == (2, True)
    assert not (tmp_path / "again.jsonl.gz").exists()


@pytest.mark.parametrize("words", [["collect"], ["collect", "--dry-run"], ["doctor"], ["collect", "--json"]])
def test_ctrl_c_ends_a_command_that_waits(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For an endpoint that takes the question and never answers."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "c.toml").write_text(
            f'[[chains]]\nid = 1\nrpc = ["http://127.0.0.1:{silent.getsockname()[1]}"]\n'
            '[[deployments]]\nadapter = "aave_v3"\nchain = 1\nname = "core"\n'
            'addresses = { pool_addresses_provider = "0x2f39d218133AFaB8F2B819B1066c7E434Ad94E9e" }\n'
        )

        def interrupt() -> None:
            asked, _ = silent.accept()
            with asked:
                asked.recv(1)
                os.kill(os.getpid(), signal.SIGINT)

        person = threading.Thread(target=interrupt)
        person.start()
        said = call(capsys, *words, "--config", "c.toml")
        person.join()
    assert said.code == 130, said
    assert said.err.splitlines()[-1] == "cancelled; what was stored before stays as it was"
    assert "Traceback" not in said.err
