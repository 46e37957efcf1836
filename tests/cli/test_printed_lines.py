"""Whatever is printed to be typed works as printed: in reports, in hints of errors, by the doctor, after the demo."""

from __future__ import annotations

import ast
import html
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from aggregator import cli
from aggregator.app.demo import RECORDING, Demo
from tests.cli.calling import Said, call

OWN = 'name = "my own"\n[price]\n"WETH?" = -0.31\n'


def typed(capsys: pytest.CaptureFixture[str], line: str) -> Said:
    """The line as a shell takes it: `cd` first, variables before the command, words in quotes."""
    with pytest.MonkeyPatch.context() as shell:
        words = shlex.split(line, comments=True)
        if words[0] == "cd":
            shell.chdir(words[1])
            assert words[2] == "&&"
            words = words[3:]
        while re.match(r"[A-Z_0-9]+=", words[0]):
            name, _, value = words.pop(0).partition("=")
            shell.setenv(name, value)
        assert words.pop(0) == "spillover"
        return call(capsys, *words)


@pytest.mark.parametrize("scenario", ["mild", "own.toml", "my own folder/it's.toml"])
@pytest.mark.parametrize("report", ["r.html", "out of it/r.html"])
@pytest.mark.parametrize("config", ["named", "named, with a store of its own", "found", "store in the environment"])
def test_a_report_says_how_to_run_it_again(
    demo: Demo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    scenario: str,
    report: str,
    config: str,
) -> None:
    """In the folder where it lies, wherever the command was typed and whatever it found by itself."""
    monkeypatch.chdir(tmp_path)
    for name in ("own.toml", "my own folder/it's.toml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(OWN)
    for folder in ("out of it", "config", "elsewhere"):
        Path(folder).mkdir()
    shutil.copyfile(demo.store, "elsewhere/s.db")
    url = {"named, with a store of its own": "%(here)s/s.db", "store in the environment": "nothing.db"}
    file = Path("config/default.toml" if config == "found" else "elsewhere/c.toml")
    file.write_text(f'[store]\nurl = "sqlite:///{url.get(config, "elsewhere/s.db")}"\n')
    named = [] if config == "found" else ["--config", str(file)]
    with pytest.MonkeyPatch.context() as shell:
        if config == "store in the environment":
            shell.setenv("SPILLOVER_STORE_URL", "sqlite:///elsewhere/s.db")
        first = call(capsys, "stress", scenario, *named, "--report", report)
    assert first.code == 0, first
    line = _line(Path(report))
    assert "--at" in line
    monkeypatch.chdir(Path(report).parent)
    again = typed(capsys, line)
    assert (again.code, again.out) == (0, first.out), (line, again)


def _line(report: Path) -> str:
    (found,) = re.findall(r"type in the folder of this page: ([^<]+)", report.read_text())
    return html.unescape(found).strip()


def test_a_demo_can_be_moved(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Configuration, store, recording and the report's own line still meet; nothing of the first folder is left."""
    moved = tmp_path / "moved here"
    shutil.copytree(demo.config.parent, moved)
    assert str(demo.config.parent) not in (moved / "config.toml").read_text()
    monkeypatch.chdir(moved)
    again = typed(capsys, _line(moved / "report.html"))
    assert again.code == 0
    assert demo.summary["cut_digest"][:12] in again.out
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "collect", "--config", "moved here/config.toml").code == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["moved here"]


ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(cli.app)
HOLDER = "0x79d55e13c647319f21bdd3092fa0e99010f1258b"


def _texts(file: Path) -> Iterator[str]:
    """What a person may read out of a source: its strings, X for what stands in them, without documentation."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            documentation |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def test_every_line_in_a_hint_is_one_that_the_command_takes() -> None:
    """In backquotes, so that the command can complete it; a verb that there is, with the arguments that it needs."""
    verbs, seen = "|".join(COMMANDS.commands), set()  # type: ignore[attr-defined]
    for file in (*ROOT.glob("aggregator/**/*.py"), *ROOT.glob("adapters/*.py")):
        for text in _texts(file):
            bare = re.sub(r"`[^`]*`", "", text)
            typed_bare = re.findall(rf"\bspillover (?:{verbs})\b(?! scenario\.toml)", bare)
            assert not typed_bare, (file, text)
            for line in re.findall(r"`spillover ([a-z][^`]*)`", text):
                verb, *words = shlex.split(line)
                COMMANDS.commands[verb].make_context(verb, words)  # type: ignore[attr-defined]
                seen.add(line)
    assert {"collect", "doctor", "demo", "wallet X"} <= seen


def _hints(said: Said) -> list[str]:
    return re.findall(r"`(spillover [^`]+)`", said.out + said.err)


@pytest.fixture
def unread(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The demo's configuration beside its recording, with nothing collected yet."""
    monkeypatch.chdir(tmp_path)
    Path("some where").mkdir()
    for name in ("config.toml", RECORDING):
        shutil.copyfile(demo.config.parent / name, Path("some where") / name)
    return "some where/config.toml"


@pytest.mark.parametrize("words", [["wallet", HOLDER], ["stress", "mild"], ["exposure", "WETH"]])
def test_what_an_empty_store_hints_fills_it(words: list[str], unread: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused = call(capsys, *words, f"--config={unread}")
    assert refused.code == 1
    collect, demo = _hints(refused)
    assert demo == "spillover demo"
    assert typed(capsys, collect).code == 0
    assert call(capsys, *words, "--config", unread).code == 0


def test_what_else_is_hinted_runs_on_the_configuration_that_was_named(
    unread: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "collect", "--config", unread).code == 0
    nobody = "0x" + "0" * 39 + "1"
    (line,) = _hints(call(capsys, "explain", "wallet", nobody, "health_factor", "--config", unread))
    assert nobody in typed(capsys, line).out
    (line,) = _hints(call(capsys, "explain", "SPL-200", "--config", unread))
    assert "recording" in typed(capsys, line).out
    text = Path(unread).read_text().split("[replay]")[0] + '[[chains]]\nid = 1\nrpc = ["http://127.0.0.1:9"]\n'
    read = '[[deployments]]\nadapter = "erc4626"\nchain = 1\nname = "x"\nvaults = ["0x' + "11" * 20 + '"]\n'
    Path("dead.toml").write_text(f"{text}timeout_s = 0.1\ndeadline_s = 0.1\n{read}")
    lines = _hints(call(capsys, "collect", "--config", "dead.toml"))
    assert lines
    for line in lines:
        assert "endpoint 1" in typed(capsys, line).out


def test_the_demo_says_what_to_run_next(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its lines but those that wait for something of the reader's own, and the service that runs on."""
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in call(capsys, "demo", "--dir", "my demo").out.split("next\n")[1].splitlines()]
    own = [line for line in lines if " serve " not in line and "your" not in line.lower()]
    assert len(own) >= 2
    assert [typed(capsys, line).code for line in own] == [0] * len(own)
