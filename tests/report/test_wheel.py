"""What `pip install .` installs runs from anywhere: configuration, migrations and the demo's recording are in it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aggregator.app.demo import Demo
from tests.devnet.toolchain import REPOSITORY

BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.mark.slow
def test_the_demo_of_the_wheel_is_the_demo_of_the_checkout(demo: Demo, tmp_path: Path) -> None:
    """Another process, another hash seed, no checkout in sight: the same report.json to the byte."""
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    installed = tmp_path / "installed"
    with zipfile.ZipFile(tmp_path / built.stdout.split()[-1]) as wheel:
        assert {name.split("/")[0].split("-")[0] for name in wheel.namelist()} == {
            "aggregator",
            "adapters",
            "spillover",
        }
        wheel.extractall(installed)
    env = os.environ | {"PYTHONPATH": str(installed), "PYTHONHASHSEED": "4711"}

    def spillover(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "aggregator", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    where = subprocess.run(
        [sys.executable, "-c", "import aggregator; print(aggregator.__file__)"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(installed)
    done = spillover("demo", "--dir", "d")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d" / "report.json").read_bytes() == demo.report.with_suffix(".json").read_bytes()
    assert spillover("doctor", "--config", "d/config.toml").returncode == 0
    measured = spillover("bench", "decode")
    assert measured.returncode == 0, measured.stderr
    assert "decode.columns" in measured.stdout
