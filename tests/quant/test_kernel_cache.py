"""Kernels compile and answer wherever numba can or cannot keep what it compiled."""

from __future__ import annotations

import fcntl
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numba
import pytest

from aggregator.quant import jit
from tests.store.unwritable import full_disk, read_only_folder, remove, somebody_else

Kernel = Callable[[], Callable[[float], float]]
_NUMBER = count()


def _source(folder: Path) -> Path:
    source = folder / f"kernel{next(_NUMBER)}.py"
    source.write_text("from aggregator.quant.jit import jit\n@jit\ndef double(x):\n    return 2 * x\n")
    return source


def _load(source: Path) -> Callable[[float], float]:
    """Decorates the kernel anew, as another process would."""
    spec = importlib.util.spec_from_file_location(source.stem, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    double: Callable[[float], float] = module.double
    return double


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """Decorates a kernel of a package that cannot be written, for a user without a home."""
    source = _source(tmp_path)
    package = read_only_folder(source)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    jit._cache_elsewhere.cache_clear()
    assert numba.njit(lambda x: x)(1) == 1  # numba imports the rest of itself at the first call, as whoever may read it

    yield lambda: _load(package / source.name)
    jit._cache_elsewhere.cache_clear()
    remove(package)


def _here(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary folder, in which everybody may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    _here(monkeypatch, folder)
    yield folder
    remove(folder)


def test_without_home_or_package_folder_the_temporary_folder_keeps_it(kernel: Kernel, spare: Path) -> None:
    with somebody_else():
        assert kernel()(21) == 42
        (folder,) = spare.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert list(folder.rglob("*.nbc"))
        again = kernel()
        assert again(21) == 42
        assert sum(again.stats.cache_hits.values()) == 1  # type: ignore[attr-defined]


def test_a_folder_of_somebody_else_is_not_run_from(kernel: Kernel, spare: Path) -> None:
    """Whoever may write the cache says what this user runs: a folder that lies there already is no gift."""
    with somebody_else():
        kernel()
        (folder,) = spare.iterdir()
        folder.chmod(0o777)
        for planted in folder.rglob("*.nb?"):
            planted.unlink()
        jit._cache_elsewhere.cache_clear()
        numba.config.CACHE_DIR = ""
        assert kernel()(21) == 42
        assert not list(folder.rglob("*.nb?"))


def test_with_no_folder_at_all_every_process_compiles(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    spare = read_only_folder()
    _here(monkeypatch, spare)
    with somebody_else():
        assert kernel()(21) == 42
    assert not list(spare.iterdir())
    remove(spare)


def test_a_full_disk_keeps_nothing_and_hides_no_answer(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    with full_disk():
        assert kernel()(21) == 42
    assert not [file for file in tmp_path.rglob("*.nb?") if file.stat().st_size]


def test_machine_code_is_written_and_read_by_one_process_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the folder's lock is waited for; a kernel compiled for two signatures keeps both."""
    source = _source(tmp_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    first = _load(source)
    assert first(21) == 42
    (lock,) = (tmp_path / "cache").rglob("numba.lock")
    with ThreadPoolExecutor(1) as other:
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            waiting = other.submit(_load(source), 2.5)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        assert waiting.result(timeout=60) == 5.0
    again = _load(source)
    assert (again(21), again(2.5)) == (42, 5.0)
    assert sum(again.stats.cache_hits.values()) == 2  # type: ignore[attr-defined]
