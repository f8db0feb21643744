"""Work that may wait for files, one step after the other, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """One thread: for some steps the process takes the rights of a file's owner."""

    def __init__(self) -> None:
        """Start no thread before it is needed."""
        self._thread = ThreadPoolExecutor(1, "files")

    async def do(self, step: Callable[[], T]) -> T:
        """Return what *step* returns; where no thread can be started, the loop waits for it."""
        try:
            done: Awaitable[T] = asyncio.get_running_loop().run_in_executor(self._thread, step)
        except RuntimeError:
            return step()
        return await done

    def stop(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown(wait=True)
