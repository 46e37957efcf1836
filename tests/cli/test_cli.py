"""The command as a person and a script meet it: exit codes, one error object, nothing heavy before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator.report.errors import PAGES


def spillover(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aggregator", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("words", [["--help"], ["collect", "--help"], ["colect"]])
def test_help_and_usage_errors_load_no_numeric_or_chain_library(words: list[str]) -> None:
    code = (
        "import sys\nfrom aggregator.cli import main\n"
        f"sys.argv = ['spillover', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'web3', 'pandas', 'numba', 'numpy', 'scipy', 'sqlalchemy', 'aiohttp', 'plotly'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "HEAVY []" in done.stdout


def test_usage_errors_exit_with_2_and_suggest(tmp_path: Path) -> None:
    done = spillover("colect", cwd=tmp_path)
    assert done.returncode == 2
    assert "collect" in done.stderr


def test_errors_are_one_json_object_when_json_is_asked(tmp_path: Path) -> None:
    done = spillover("wallet", "0x12", "--json", cwd=tmp_path)
    problem = json.loads(done.stdout)
    assert done.returncode == 2
    assert problem["code"] == "SPL-100"
    assert problem["found"] == "0x12"
    assert {"type", "title", "detail", "expected", "fix"} <= set(problem)


def test_an_unreadable_configuration_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[store\n")
    assert spillover("collect", "--config", "c.toml", cwd=tmp_path).returncode == 2
    assert spillover("collect", "--config", "absent.toml", cwd=tmp_path).returncode == 2


def test_a_key_in_an_endpoint_never_shows(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        '[[chains]]\nid = 1\nrpc = ["http://127.0.0.1:9/v2/SECRETKEY"]\ntimeout_s = 1.0\ndeadline_s = 1.0\n'
        '[[deployments]]\nadapter = "aave_v3"\nchain = 1\nname = "core"\n'
        'addresses = { pool_addresses_provider = "0x2f39d218133AFaB8F2B819B1066c7E434Ad94E9e" }\n'
    )
    for words in (["collect"], ["collect", "--json"], ["doctor"], ["doctor", "--json"]):
        done = spillover(*words, "--config", "c.toml", cwd=tmp_path)
        assert done.returncode == 1
        assert "SECRETKEY" not in done.stdout + done.stderr
    for file in tmp_path.iterdir():
        assert b"SECRETKEY" not in file.read_bytes() or file.name == "c.toml"


def test_every_error_code_has_its_page(tmp_path: Path) -> None:
    from aggregator.core import errors
    from aggregator.rules import base

    raised = [e for module in (errors, base) for e in vars(module).values() if isinstance(e, type)]
    codes = {e.code for e in raised if issubclass(e, errors.SpilloverError) and e is not errors.SpilloverError}
    assert codes <= set(PAGES)
    assert spillover("explain", "spl-210", cwd=tmp_path).stdout.startswith("SPL-210")
