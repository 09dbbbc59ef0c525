from __future__ import annotations

from typing import Any

from onitu.cli import output


def status(**more: Any) -> dict[str, Any]:
    services = {name: {"state": "idle", "trouble": "", "looking": 0, "in_flight": 0, "known": 3} for name in "abc"}
    folder = {"settled": True, "in_sync": True, "files": 12345, "bytes": 10**6, "services": services} | more
    return {"folders": {"docs": folder}}


def test_a_summary_counts_what_was_done() -> None:
    text = output.summary(status(puts=1, deletes=1, transferred_bytes=1234), 1.23)
    assert text == "in sync: 3 replicas, 12,345 files; 2 changed, 1,234 bytes transferred, 0 conflicts (1.2 s)"


def test_a_summary_of_nothing_says_so() -> None:
    text = output.summary(status(), 0.04)
    assert text == "nothing to do: 0 bytes transferred; 3 replicas, 12,345 files (0.0 s)"


def test_a_summary_admits_that_it_is_not_in_sync() -> None:
    assert output.summary(status(in_sync=False, conflicts=1), 0).startswith("not in sync: ")
    assert "1 conflict " in output.summary(status(in_sync=False, conflicts=1), 0)


def test_no_folder_is_neither_settled_nor_in_sync() -> None:
    assert not output.is_settled({})
    assert not output.is_in_sync({"folders": {}})


def test_a_status_says_why() -> None:
    found = status(in_sync=False, blocked=2, quarantined={"a": 60}, left=3, conflicts=2, hidden=1)
    found["folders"]["docs"]["services"]["b"] |= {
        "state": "unavailable",
        "trouble": "the root is not there",
        "looking": 4,
    }
    found["folders"]["docs"]["services"]["a"] |= {"state": "busy", "in_flight": 2, "note": "HTTP 429, again in 20 s"}
    lines = output.status_lines(found)
    assert lines[0] == (
        "docs: settled, not in sync; 12,345 files, 1.00 MB, 3 left, 2 blocked, 2 conflicts, 1 outside the rules"
    )
    assert "  a: busy, 2 under way (HTTP 429, again in 20 s)" in lines
    assert "  b: unavailable, 4 to look at: the root is not there" in lines
    assert any("60 deletions held back; `onitu approve a`" in line for line in lines)


def test_a_problem_names_path_reason_and_service() -> None:
    problem = {"folder": "docs", "path": "a", "service": "nas", "kind": "blocked", "reason": "no space"}
    assert output.problem_lines([problem]) == ["a: no space (on nas)"]


def test_a_decision_is_one_line() -> None:
    entry = {"time": "12:00", "path": "x", "service": "a", "case": "fast-forward", "outcome": "head", "detail": {}}
    assert output.entry_line(entry) == "12:00  x on a: fast-forward → head"
    entry["detail"] = {"kind": "file", "size": 1, "source": "y", "blake3": "00"}
    assert output.entry_line(entry).endswith("head (file, 1 byte, from y)")


def test_news_are_one_line() -> None:
    assert output.news_line("trouble", {"path": "x", "service": "a", "reason": "full"}) == "x on a: full"
    assert output.news_line("trouble", {"service": "a", "quarantined": 60}) == "a: quarantined 60"


def test_a_status_tells_of_a_run_without_its_referee_and_of_what_was_given_up() -> None:
    failed = {"name": "driver a", "state": "failed", "pid": None, "restarts": 5, "reason": "status 1", "rss": None}
    fine = {"name": "store", "state": "running", "pid": 12, "restarts": 0, "reason": "", "rss": 12_000_000}
    found = {
        "run": {"name": "x", "pid": 7, "phase": "running"},
        "referee": "it does not answer",
        "processes": [failed, fine],
    }
    lines = ["x: running, process 7", "it does not answer"]
    given_up = "process driver a: failed, 5 restarts (status 1); `onitu resume` starts it again"
    assert output.status_lines(found) == [*lines, given_up]
    assert output.status_lines(found, verbose=True) == [*lines, given_up, "process store: running, 12, 12.0 MB"]


def test_what_a_poll_costs_is_told_when_asked() -> None:
    found = status()
    found["folders"]["docs"]["services"]["b"]["counters"] = {
        "requests": 12,
        "scans": 3,
        "poll_requests": 2,
        "poll_bytes": 2_000_000,
        "read_bytes": 1_000,
    }
    cost = "    12 requests; 3 polls, the last of 2 requests, 2.00 MB; 1.00 kB read"
    assert cost in output.status_lines(found, verbose=True)
    assert cost not in output.status_lines(found)
