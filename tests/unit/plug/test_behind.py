"""Work that follows close behind."""

from __future__ import annotations

import contextlib
import threading

import pytest

from onitu.plug.behind import Behind


def test_it_is_done_in_order_and_by_another_thread() -> None:
    done: list[tuple[int, bool]] = []
    with contextlib.closing(Behind()) as behind:
        for number in range(20):
            behind.give(lambda number=number: done.append((number, threading.current_thread() is here)))
    assert done == [(number, False) for number in range(20)]


here = threading.current_thread()


def test_one_piece_is_under_way_and_not_more() -> None:
    begun, may_end = threading.Event(), threading.Event()
    seen: list[str] = []

    def first() -> None:
        begun.set()
        assert may_end.wait(10)
        seen.append("first")

    with contextlib.closing(Behind()) as behind:
        behind.give(first)
        assert begun.wait(10)
        ender = threading.Timer(0.05, may_end.set)
        ender.start()
        behind.give(lambda: seen.append("second"))
        assert seen[0] == "first", "the second was taken before the first had ended"
        ender.join()
        behind.wait()
    assert seen == ["first", "second"]


def test_an_error_comes_out_once_and_the_next_is_done() -> None:
    def fail() -> None:
        raise OSError(5, "the disk is broken")

    done: list[int] = []
    with contextlib.closing(Behind()) as behind:
        behind.give(fail)
        with pytest.raises(OSError, match="broken"):
            behind.give(lambda: done.append(1))
        behind.give(lambda: done.append(2))
        behind.wait()
        behind.wait()
    assert done == [2]


def test_its_thread_ends_with_it_whatever_became_of_the_work() -> None:
    def fail() -> None:
        raise OSError(5, "the disk is broken")

    before = threading.active_count()
    behind = Behind()
    behind.give(fail)
    behind.close()
    behind.close()
    assert threading.active_count() == before
