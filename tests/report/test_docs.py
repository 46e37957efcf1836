"""What the documents tell a newcomer to run runs as written, and what they show of formats is so."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from aggregator.api import make_app
from aggregator.app import App
from aggregator.app.config import parse_config
from aggregator.app.demo import Demo
from aggregator.core.scenario import parse_scenario
from aggregator.ingest.book import TABLES
from tests.cli.calling import call

ROOT = Path(__file__).parents[2]
LINES = (
    "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/spillover demo",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest -q",
)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(file: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", file.read_text(encoding="utf-8"), re.S | re.M)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """One line as a shell would split it, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SPILLOVER_")]:
        monkeypatch.delenv(name)

    def line(text: str) -> str:
        words = shlex.split(text, comments=True)
        assert words[0] == "spillover"
        said = call(capsys, *words[1:])
        assert said.code == 0, f"{text}\n{said.out}\n{said.err}"
        return said.out

    return line


def test_the_two_lines_of_the_readme_are_there_to_the_letter() -> None:
    text = (ROOT / "README.md").read_text()
    for line in LINES:
        assert f"\n{line}\n" in text


def test_the_readmes_commands_run_as_written(run: Callable[[str], str]) -> None:
    for line in "".join(blocks(ROOT / "README.md", "bash")).splitlines():
        assert run(line)
    assert Path("demo/depth_half.html").stat().st_size > 100_000


def test_the_readmes_notebook_runs_in_the_demos_folder(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    monkeypatch.chdir(demo.report.parent)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["held"]["value_usd"].notna().all()


def test_the_import_example_is_what_its_document_says(run: Callable[[str], str], tmp_path: Path) -> None:
    document = ROOT / "docs" / "import.md"
    files = re.findall(r"^`(book/\w+\.csv)`\n```csv\n(.*?)^```$", document.read_text(), re.S | re.M)
    assert {Path(name).stem for name, _ in files} <= set(TABLES)
    for name, text in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for line in "".join(blocks(document, "bash")).splitlines():
        run(line)
    alice = json.loads(run("spillover wallet alice --json"))
    assert alice["positions"][0]["health_factor"].startswith("1.142857142857")  # 10 x 2,000 x 0.8 / 14,000
    after = json.loads((tmp_path / "book.json").read_text())
    assert [m["liquidated_accounts"] for m in after["markets"]] == [1]


def test_the_import_tables_are_documented_column_by_column() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", (ROOT / "docs" / "import.md").read_text(), re.M)
    documented = {name: (re.findall(r"`(\w+)`", need), re.findall(r"`(\w+)`", may)) for name, need, may in rows}
    assert documented == {name: (list(spec.required), list(spec.optional)) for name, spec in TABLES.items()}


def test_configuration_and_scenario_of_the_document_are_accepted() -> None:
    config, scenario = blocks(ROOT / "docs" / "configuration.md", "toml")
    data = tomllib.loads(config)
    assert data.pop("deployments_dir") == "deployments"
    found = parse_config(data)
    assert found.chain(1).rpc
    assert found.deployments[0].adapter == "aave_v3"
    assert parse_scenario(tomllib.loads(scenario)).depeg == {"svETH?": 0.96}


def test_the_address_keys_documented_are_those_that_adapters_read() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| .*\|$", (ROOT / "docs" / "configuration.md").read_text(), re.M)
    documented = {name: set(re.findall(r"`(\w+)`", keys)) for name, keys in rows}
    read = {}
    for file in (ROOT / "adapters").glob("[!_]*.py"):
        text = file.read_text()
        read[file.stem] = set(re.findall(r'where\.address\("(\w+)"\)', text))
        read[file.stem] |= set(re.findall(r'"(\w+)" in where\.addresses', text))
    assert documented == read


async def test_every_curl_line_is_answered(config: Path) -> None:
    lines = "".join(blocks(ROOT / "docs" / "api.md", "curl")).splitlines()
    assert len(lines) >= 5
    with App.open(config) as app:
        async with TestClient(TestServer(make_app(app))) as client:
            for line in lines:
                words = shlex.split(line)
                (url,) = (w for w in words if w.startswith("http://127.0.0.1:8080/"))
                path = url.removeprefix("http://127.0.0.1:8080")
                body = words[words.index("-d") + 1] if "-d" in words else None
                answer = await (client.post(path, data=body) if body else client.get(path))
                assert answer.status == 200, (line, await answer.text())
                if path.startswith("/v1/"):
                    assert {"data", "meta", "links"} <= set(await answer.json())


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.stem)
def test_files_that_documents_point_to_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:docs|config|adapters|aggregator|tests)/[\w./-]*\w", text))
    named |= set(re.findall(r"\]\((?!https?:)([^)]+)\)", text))
    invented = {"adapters/yours.py", "config/deployments/yours.toml", "tests/adapters/test_yours.py"}
    missing = [n for n in sorted(named - invented) if not (ROOT / n).exists() and not (file.parent / n).exists()]
    assert missing == []
