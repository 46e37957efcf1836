"""Make the demo's recording anew: `python -m tests.devnet.demo` writes config/demo/.

The same seed gives the same chains to the last block hash, so the recording changes only when an adapter asks for other
things. It holds calls and answers of real protocol bytecode, no bytecode.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from aggregator.app import App
from aggregator.app.config import data_dir
from aggregator.app.demo import RECORDING
from tests.devnet import configuration
from tests.devnet.demo_world import demo_world
from tests.devnet.toolchain import toolchain

HEAD = """# The demo: three local chains with real protocol bytecode, replayed from the recording beside this file.
# Made by `python -m tests.devnet.demo`; nobody's address, nobody's money.

"""


def main() -> None:
    world = demo_world(toolchain(print))
    try:
        folder = data_dir("config") / "demo"
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            file = configuration.write(world, Path(work) / "config.toml", f"sqlite:///{work}/demo.db")
            with App.open(file) as app:
                app.collect(lambda name, done, total: None, record=folder / RECORDING)
                for gap in app.snapshot().gaps:
                    print("gap", gap.subject, gap.reason, gap.detail)
        replay = {"recording": RECORDING}
        (folder / "demo.toml").write_text(HEAD + configuration.toml(world, rpc=False, replay=replay), encoding="utf-8")
    finally:
        world.stop()


if __name__ == "__main__":
    main()
