"""Scheduled rounds: collect, then stress every standing scenario, into the same store.

APScheduler 3 with its memory job store: schedules live in configuration, history in the store's runs. One round at a
time; a round missed while one was running is run once, late (coalesced).
"""

from __future__ import annotations

import asyncio
import logging
import signal
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from aggregator.app import App
from aggregator.core.errors import SpilloverError

log = logging.getLogger("spillover.jobs")


def run_round(app: App) -> bool:
    """One collect and its stresses; False if anything failed. Failures are logged and leave the store whole."""
    try:
        answer = app.collect(_quiet)
    except (SpilloverError, OSError) as error:
        log.error("round failed: %s", error)
        return False
    done = True
    for scenario in app.config.schedule.scenarios:
        try:
            app.stress(scenario, answer.data["cut"]["digest"], _quiet, keep=True)
        except (SpilloverError, OSError) as error:
            log.error("stress %s failed: %s", scenario, error)
            done = False
    told = "; more gaps than allowed" if answer.too_many_gaps else ""
    log.info("round done: cut %s, %d stresses%s", answer.data["cut"]["digest"][:12],
             len(app.config.schedule.scenarios), told)  # fmt: skip
    return done


def _quiet(name: str, done: int, total: int) -> None:
    """Nobody watches a round."""


def schedule(app: App, *, once: bool = False) -> bool:
    """Run rounds on the configured interval until SIGINT or SIGTERM; with `once`, one round now.

    ConfigError before the first round if a standing scenario cannot be read, StoreError if the store cannot be written.
    """
    for scenario in app.config.schedule.scenarios:
        app.scenario(scenario)
    app.store.migrate()
    if once:
        return run_round(app)
    asyncio.run(_forever(app))
    return True


def _on_signal(stop: asyncio.Event) -> None:
    """Sets stop on SIGINT, SIGTERM and, on Windows, Ctrl-Break. Windows' event loops take no handlers of their own."""
    loop = asyncio.get_running_loop()
    for number in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGBREAK", signal.SIGINT)}:
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


async def _forever(app: App) -> None:
    under_way = asyncio.Lock()

    async def one_round() -> None:
        async with under_way:
            await asyncio.to_thread(run_round, app)

    scheduler = AsyncIOScheduler(timezone="UTC")
    scheduler.add_job(
        one_round,
        "interval",
        seconds=app.config.schedule.interval_s,
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
        next_run_time=datetime.now(UTC),  # the first round does not wait for the interval
        id="round",
    )
    stop = asyncio.Event()
    _on_signal(stop)
    scheduler.start()
    await stop.wait()
    scheduler.remove_job("round")
    if under_way.locked():
        log.info("stopping when the round under way is done")
    async with under_way:
        scheduler.shutdown(wait=False)
