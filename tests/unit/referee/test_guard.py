from __future__ import annotations

import pytest

from onitu.referee.guard import QUIET, Guard


def burst(guard: Guard, number: int, files: int, start: float = 0.0) -> list[bool]:
    """Delete some files of a folder within a second; which of them are held back."""
    held: list[bool] = []
    for n in range(number):
        held.append(guard.deletes(start + n / number / 2, standing(files, held)))
    return held


def standing(files: int, held: list[bool]) -> int:
    """What stands after such a burst: what was held back does."""
    return files - held.count(False)


def test_a_single_deletion_passes_at_once() -> None:
    assert burst(Guard(), 1, 100) == [False]


def test_the_only_file_may_be_deleted() -> None:
    assert burst(Guard(), 1, 1) == [False]


def test_fifty_deletions_of_many_pass_at_once() -> None:
    assert not any(burst(Guard(), 50, 1000))


@pytest.mark.parametrize(("files", "pass_"), [(5000, 50), (10_000, 100), (50_000, 500), (1_000_000, 500)])
def test_one_in_a_hundred_files_of_a_large_folder_passes_at_once_up_to_five_hundred(files: int, pass_: int) -> None:
    assert burst(Guard(), 1000, files).index(True) == pass_


def test_the_rest_of_a_large_burst_is_held_back_until_it_is_over() -> None:
    guard = Guard()
    held = burst(guard, 200, 1000)
    assert held.index(True) == 50
    assert not guard.over(0.6)
    assert guard.over(0.6 + QUIET)
    assert not guard.suspicious(standing(1000, held))


def test_more_than_half_of_a_folder_is_suspicious() -> None:
    guard = Guard()
    assert guard.suspicious(standing(150, burst(guard, 100, 150)))


def test_just_half_of_a_folder_is_believed() -> None:
    guard = Guard()
    guard.announce(0.0, 60, 120)
    assert not guard.suspicious(standing(120, burst(guard, 60, 120)))


def test_fifty_files_are_believed_whatever_part_of_the_folder_they_were() -> None:
    guard = Guard()
    assert not guard.suspicious(standing(60, burst(guard, 50, 60)))


def test_half_of_a_small_folder_is_not() -> None:
    guard = Guard()
    assert not guard.suspicious(standing(40, burst(guard, 30, 40)))


def test_everything_is_suspicious_in_a_small_folder_too() -> None:
    guard = Guard()
    held = burst(guard, 10, 10)
    assert held.count(False) == 5
    assert guard.suspicious(standing(10, held))


def test_both_of_two_files_are_suspicious() -> None:
    guard = Guard()
    held = burst(guard, 2, 2)
    assert held == [False, True]
    assert guard.suspicious(standing(2, held))


def test_all_but_one_of_a_small_folder_are_believed() -> None:
    guard = Guard()
    assert not guard.suspicious(standing(10, burst(guard, 9, 10)))


def test_deletions_far_apart_are_no_burst() -> None:
    guard = Guard()
    assert not any(guard.deletes(n * 2 * QUIET, 100 - n) for n in range(90))


def test_once_quarantined_every_deletion_waits() -> None:
    guard = Guard(quarantined=True)
    assert burst(guard, 1, 1000) == [True]


def test_after_a_burst_was_judged_the_next_begins_anew() -> None:
    guard = Guard()
    burst(guard, 200, 1000)
    guard.end()
    assert burst(guard, 1, 800, start=0.6) == [False]


def test_where_many_come_together_not_even_the_first_passes() -> None:
    guard = Guard()
    guard.announce(0.0, 10, 10)
    assert all(burst(guard, 10, 10))
    assert guard.suspicious(10)


def test_a_few_that_come_together_pass_at_once() -> None:
    guard = Guard()
    guard.announce(0.0, 10, 100)
    assert not any(burst(guard, 10, 100))


def test_what_had_passed_of_a_burst_before_a_crash_is_counted_with_what_was_held_back() -> None:
    guard = Guard()
    guard.resume(0.0, 12, 52, awaits=False)  # of some 100 files 50 had passed
    assert guard.quarantined
    assert not guard.holding
    guard = Guard()
    guard.resume(0.0, 12, 952, awaits=False)
    assert guard.holding
    assert not guard.suspicious(952)
    guard = Guard()
    guard.resume(0.0, 1, 1000, awaits=True)
    assert guard.quarantined


def test_batches_of_one_burst_are_counted_together() -> None:
    guard = Guard()
    for n in range(3):
        guard.announce(n / 10, 20, 100)
        held = burst(guard, 20, 100 - 20 * n, start=n / 10)
    assert all(held)


def test_what_was_announced_and_did_not_come_keeps_nothing_back() -> None:
    guard = Guard()
    guard.announce(0.0, 100, 150)
    assert guard.over(2 * QUIET)
    assert not guard.suspicious(150)


def test_what_was_made_since_the_burst_began_is_no_folder_that_is_emptied() -> None:
    guard = Guard()
    burst(guard, 1, 2)
    guard.announce(0.8, 31, 40)
    assert not guard.suspicious(standing(40, burst(guard, 31, 40, start=0.8)))


def test_files_that_come_and_go_while_others_stay_are_no_loss() -> None:
    guard = Guard()
    for n in range(200):
        guard.deletes(n / 100, 3)
    assert not guard.suspicious(2 + guard.held)
