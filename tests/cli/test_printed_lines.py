"""Whatever is printed to be typed works as printed: in reports, in hints of errors, by the doctor, after the demo."""

from __future__ import annotations

import html
import re
import shlex
import shutil
from pathlib import Path

import pytest

from aggregator.app.demo import Demo
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
