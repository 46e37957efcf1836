"""The suite holds itself to what it promises, and the tree to what may be in it."""

from __future__ import annotations

import gzip
import os
import re
import shlex
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
import time
import warnings
import pytest

def test_a_warning():
    warnings.warn("nobody reads this", stacklevel=1)

def test_a_socket_outside():
    socket.create_connection(("192.0.2.1", 80), timeout=1)

def test_a_socket_inside():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass

@pytest.mark.timeout(0.2)
def test_too_long():
    time.sleep(20)

@pytest.mark.parametrize("number", range(30))
def test_in_any_order(number):
    pass

def test_a_skip():
    pytest.skip("for a reason that a person sees")

@pytest.mark.slow
def test_a_long_proof():
    pass
"""
SKIPPED = "import pytest\npytest.skip('the file', allow_module_level=True)\n"
ALL = ["-m", ""]  # what .ci/run says beside the README's line


def probe(folder: Path, *options: str, **env: str) -> str:
    """What pytest says of these tests under this repository's configuration and promises."""
    command = [sys.executable, "-m", "pytest", "-v", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    command += ["--rootdir", str(folder), "-p", "tests.promises", *options, str(folder)]
    env = {**{k: v for k, v in os.environ.items() if k != "CI"}, **env, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What pytest says of the tests above: as the README runs them, but in one process, and as CI does."""
    plain, ci = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("ci")
    for folder in (plain, ci):
        (folder / "test_probe.py").write_text(PROBE)
    (ci / "test_whole.py").write_text(SKIPPED)
    with ThreadPoolExecutor() as at_once:
        one = at_once.submit(probe, plain, "-p", "no:xdist")
        two = at_once.submit(probe, ci, *ALL, "--continue-on-collection-errors", CI="true")
        return {"one process": one.result(), "CI": two.result()}


def test_the_promises_are_this_suites(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.has_plugin("tests.promises")


@pytest.mark.parametrize("where", ["one process", "CI"])
def test_warnings_fail_sockets_stay_inside_and_order_is_random(said: dict[str, str], where: str) -> None:
    told = said[where]
    assert "UserWarning: nobody reads this" in told
    assert "SocketConnectBlockedError" in told
    assert "Failed: Timeout" in told
    order = [int(a or b) for a, b in re.findall(r"PASSED .*order\[(\d+)\]|order\[(\d+)\] PASSED", told)]
    assert sorted(order) == list(range(30)) != order


def test_a_skip_is_seen_and_in_ci_a_failure(said: dict[str, str]) -> None:
    assert re.search(r"^SKIPPED .*for a reason that a person sees$", said["one process"], re.MULTILINE)
    assert "3 failed, 31 passed, 1 skipped" in said["one process"]
    for what in ("the file", "for a reason that a person sees"):
        assert f"in CI nothing is skipped: Skipped: {what}" in said["CI"]
    assert re.search(r"4 failed, 32 passed, [12] errors?", said["CI"])


def test_all_of_the_suite_runs_on_two_workers_and_in_one_process_where_that_is_asked(said: dict[str, str]) -> None:
    assert all(f"[gw{n}]" in said["CI"] for n in (0, 1))
    assert "[gw" not in said["one process"]


def test_the_readmes_line_leaves_out_exactly_what_is_marked_slow_and_ci_does_not(said: dict[str, str]) -> None:
    assert "1 deselected" in said["one process"]
    assert "test_a_long_proof" not in said["one process"]
    assert "PASSED test_probe.py::test_a_long_proof" in said["CI"]


def test_ci_runs_the_readmes_test_line_with_all_that_is_slow_and_stops_where_it_fails() -> None:
    (line,) = [s for s in (ROOT / "README.md").read_text().splitlines() if s.startswith("python3") and "pytest" in s]
    steps = (ROOT / ".ci" / "run").read_text()
    assert f"\n{line} {shlex.join(ALL)} || exit 1\n" in steps, "in `a && b && c` the shell's -e sees only c"
    assert "export CI=true" in steps
    assert f"pytest -q {shlex.join(ALL)}" in (ROOT / "CONTRIBUTING.md").read_text()


# who starts processes, and why no test of it can run in the process that it is in
PROCESSES = {
    "tests/cli/test_cli.py": "what an interpreter has not loaded yet; a line that a shell splits",
    "tests/devnet/anvil.py": "chains",
    "tests/devnet/toolchain.py": "npm and solc",
    "tests/engine/test_real_derivatives.py": "hash seed and threads are fixed when an interpreter starts",
    "tests/jobs/test_schedule.py": "SIGTERM in the middle of a round",
    "tests/line/test_collect.py": "SIGKILL",
    "tests/line/test_resume.py": "SIGKILL and Ctrl-C",
    "tests/quant/test_thread_count.py": "threads are fixed when an interpreter starts",
    "tests/report/test_browser.py": "a browser",
    "tests/report/test_terminal.py": "standard output is a pipe when the command is loaded",
    "tests/report/test_wheel.py": "another installation",
    "tests/store/test_crash.py": "SIGKILL",
    "tests/store/test_postgres.py": "PgBouncer",
    "tests/test_devnet.py": "SIGKILL of a parent; pytest without a toolchain",
    "tests/test_suite.py": "pytest itself",
}


def test_only_what_must_starts_a_process() -> None:
    """`tests.cli.calling` runs a command in this process, in a hundredth of the time."""
    starts = re.compile(r"^import subprocess$|\bos\.fork\(|\bmultiprocessing\b|create_subprocess", re.MULTILINE)
    found = {str(f.relative_to(ROOT)) for f in (ROOT / "tests").rglob("*.py") if starts.search(f.read_text())}
    assert found == set(PROCESSES)


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
