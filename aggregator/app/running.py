"""Coroutines from code that is none."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, in a thread of its own where the caller's has a loop running already, as a notebook's has."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []

    async def known() -> T:
        tasks.append((asyncio.get_running_loop(), asyncio.current_task()))
        return await work

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(asyncio.run, known())
        try:
            return done.result()
        except KeyboardInterrupt:  # a notebook's cell is stopped: so is what runs for it
            for loop, task in tasks:
                if task is not None:
                    loop.call_soon_threadsafe(task.cancel)
            raise
