"""The suite holds itself to what it promises, and the tree to what may be in it."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.devnet.toolchain import REPOSITORY as ROOT

KEPT = ("aggregator", "adapters", "benchmarks", "config", "docs", "migrations", "tests", ".ci")
PROBE = """
import socket
import warnings
import pytest

def test_a_warning():
    warnings.warn("nobody reads this", stacklevel=1)

def test_a_socket_outside():
    socket.create_connection(("192.0.2.1", 80), timeout=1)

def test_a_socket_inside():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass

@pytest.mark.parametrize("number", range(30))
def test_in_any_order(number):
    print("ran", number)

def test_a_skip():
    pytest.skip("for a reason that a person sees")
"""


def probe(folder: Path, text: str, **env: str) -> str:
    """What pytest says of these tests under this repository's configuration and conftest."""
    (folder / "test_probe.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    command += ["--rootdir", str(folder), "-p", "tests.conftest", str(folder)]
    env = {**{k: v for k, v in os.environ.items() if k != "CI"}, **env, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What pytest says of the tests above, and in CI of skips; both run at once."""
    plain, skips = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("skips")
    (skips / "test_whole.py").write_text("import pytest\npytest.skip('the file', allow_module_level=True)\n")
    one = "import pytest\n\ndef test_a_skip():\n    pytest.skip('the test')\n"
    with ThreadPoolExecutor() as at_once:
        first = at_once.submit(probe, plain, PROBE)
        second = at_once.submit(probe, skips, one, CI="true", PYTEST_ADDOPTS="--continue-on-collection-errors")
        return {"plain": first.result(), "in CI": second.result()}


def test_warnings_fail_sockets_stay_inside_skips_are_seen_and_order_is_random(said: dict[str, str]) -> None:
    told = said["plain"]
    assert "UserWarning: nobody reads this" in told
    assert "SocketConnectBlockedError" in told
    assert re.search(r"^SKIPPED .*for a reason that a person sees$", told, re.MULTILINE)
    assert "2 failed, 31 passed, 1 skipped" in told
    order = [int(n) for n in re.findall(r"ran (\d+)", told)]
    assert sorted(order) == list(range(30)) != order


def test_in_ci_a_skip_is_a_failure(said: dict[str, str]) -> None:
    for what in ("file", "test"):
        assert f"in CI nothing is skipped: Skipped: the {what}" in said["in CI"]
    assert "1 failed, 1 error" in said["in CI"]


def test_ci_runs_the_readmes_test_line_and_stops_where_it_fails() -> None:
    (line,) = [s for s in (ROOT / "README.md").read_text().splitlines() if s.startswith("python3") and "pytest" in s]
    steps = (ROOT / ".ci" / "run").read_text()
    assert f"\n{line} || exit 1\n" in steps, "in `a && b && c` the shell's -e sees only c"
    assert "export CI=true" in steps


def texts() -> Iterator[tuple[Path, str]]:
    """Everything that is or would be committed, as text; a recording unpacked."""
    for folder in (ROOT / name for name in KEPT):
        yield from ((f, read(f)) for f in sorted(folder.rglob("*")) if f.is_file() and "__pycache__" not in f.parts)
    yield from ((f, read(f)) for f in sorted(ROOT.glob("*.*")) if f.suffix in (".md", ".toml"))


def read(file: Path) -> str:
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return raw.decode("latin-1")


def test_no_bytecode_and_no_path_of_a_machine_is_kept() -> None:
    """solc ends what it compiles with CBOR that says "solc"; a creation code is thousands of hex digits in a row."""
    marker, code = b"solc".hex(), re.compile(r"[0-9a-fA-F]{3000}")
    path = re.compile(r"/(?:home|root|Users|tmp)/\w")
    found = [str(f) for f, text in texts() if f.suffix != ".png" and (marker in text.lower() or path.search(text))]
    found += [str(f) for f, text in texts() if f.suffix not in (".gz", ".png") and code.search(text)]
    assert found == []
