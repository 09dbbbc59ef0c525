"""Work that follows close behind: done in a thread of its own, one piece after the other, while the next is fetched.

What it is for is the digest of a large content: one processor hashes a piece while another copies, or sends, the next.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Behind:
    """At most one piece of work is under way, so that what it holds on to stays bounded. Its thread begins with the
    first, and ends with `close`. For threads, one at a time; nothing here knows of Trio."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def give(self, work: Callable[[], None]) -> None:
        """Have it done after the one before, which is waited for. Raises what that one raised."""
        self.wait()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "behind")
        self._under_way = self._thread.submit(work)

    def wait(self) -> None:
        """Wait until all is done. Raises what the last one raised, once."""
        if self._under_way is not None:
            last, self._under_way = self._under_way, None
            last.result()

    def close(self) -> None:
        """Wait until all is done, whatever comes of it; it may be used again after that."""
        thread, self._thread, self._under_way = self._thread, None, None
        if thread is not None:
            thread.shutdown()
