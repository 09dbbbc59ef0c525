"""What can be asked of the Referee; the command line's commands end here. Answers are JSON-like."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from onitu.model import paths
from onitu.model.errors import OnituError
from onitu.model.nodes import Node
from onitu.model.versions import Same, Version, same_content
from onitu.store.interface import Change
from onitu.wire.messages import Command

from . import checking
from .folder import PAGE, FolderReferee
from .link import Link
from .machine import era
from .planner import left, plan

if TYPE_CHECKING:
    from .service import RefereeService

_LINE = re.compile(r"\d{1,19}-\d{1,19}")
"""What the store calls a line of the journal."""

Answering = Callable[["RefereeService", dict[str, Any]], Awaitable[dict[str, Any]]]


async def status(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """Everything at a glance: `{"folders": {name: …}}`."""
    return {
        "folders": {f.folder: await f.ask(functools.partial(_folder_status, f)) for f in _folders(referee, arguments)}
    }


async def settled(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """The status, once nothing moves any more, or after `timeout` seconds."""
    with trio.move_on_after(float(arguments.get("timeout", 3600.0))):
        while True:
            waiting = [folder for folder in _folders(referee, arguments) if not folder.settled.is_set()]
            if not waiting:
                break
            await waiting[0].settled.wait()
    return await status(referee, arguments)


async def _folder_status(folder: FolderReferee) -> dict[str, Any]:
    problems = await folder.store.problem_counts()
    left = await folder.store.todo_count()
    conflicts = await folder.store.conflicts()
    services = {name: _service_status(folder, link) for name, link in folder.links.items()}
    quarantined = {
        name: len(await folder.store.quarantined(name, 1_000_000))
        for name, link in folder.links.items()
        if link.guard.quarantined
    }
    settled = folder.settled.is_set()
    blocked = sum(problems.get(kind, 0) for kind in ("blocked", "clash", "unread"))
    clean = not left and not blocked and not quarantined
    whole = all(link.looked and not link.trouble and not link.paused for link in folder.links.values())
    totals = folder.totals
    counters = [link.counters for link in folder.links.values()]
    return {
        "settled": settled,
        "in_sync": settled and clean and whole,
        "files": folder.counts.get("files", 0),
        "bytes": folder.counts.get("bytes", 0),
        "left": left,
        "conflicts": len(conflicts),
        "blocked": blocked,
        "hidden": problems.get("hidden", 0),
        "quarantined": quarantined,
        "services": services,
        "transferred_bytes": totals.get("bytes", 0),
        "sent_bytes": sum(c.get("transferred_bytes", 0) for c in counters),
        "copied_bytes": sum(c.get("cloned_bytes", 0) for c in counters),
        "resumed_bytes": sum(c.get("resumed_bytes", 0) for c in counters),
        **{name: totals.get(name, 0) for name in ("puts", "deletes", "moves", "metas", "adopted")},
    }


def _service_status(folder: FolderReferee, link: Link) -> dict[str, Any]:
    if link.paused:
        state = "paused"
    elif link.trouble:
        state = "unavailable"
    elif not link.connected:
        state = "absent"
    elif not link.scanned:
        state = "scanning"
    else:
        state = "idle" if link.quiet else "busy"
    return {
        "state": state,
        "trouble": link.trouble,
        "refused": link.refused,
        "looking": link.looking,
        "note": link.note,
        "in_flight": len(link.in_flight),
        "known": folder.record(link.service).known,
        "counters": link.counters,
    }


async def sealed(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """By what a later run knows at a glance that nothing has changed since: of each folder and service its marker, its
    generation, and the tally of what it holds. Empty where there is more to know than that: something is not in sync,
    or hidden."""
    found: dict[str, dict[str, Any]] = {}
    for folder in _folders(referee, arguments):
        now = await folder.ask(functools.partial(_folder_status, folder))
        if not now["in_sync"] or now["hidden"]:
            return {"sealed": {}}
        records = {service: folder.record(service) for service in folder.links}
        found[folder.folder] = {
            service: {"marker": record.marker, "generation": record.generation, "tally": record.tally.hex()}
            for service, record in records.items()
        }
    return {"sealed": found}


async def problems(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """Paths that are blocked, hidden or held back, with the reason."""
    kind, limit = arguments.get("kind"), int(arguments.get("limit", 1000))
    found: list[dict[str, Any]] = []
    for folder in _folders(referee, arguments):
        if kind != "quarantined":
            for problem in await folder.store.problems(kind, limit):
                found.append(_row(folder, problem.path, problem.service, kind=problem.kind, reason=problem.reason))
        if kind in (None, "quarantined"):
            for service in folder.links:
                for path in await folder.store.quarantined(service, limit):
                    reason = f"its deletion is held back: `onitu approve {service}` believes it"
                    found.append(_row(folder, path, service, kind="quarantined", reason=reason))
    return {"problems": found[:limit]}


async def remaining(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """What is left to be done although no problem is told of it, and what comes next there."""
    limit = int(arguments.get("limit", 1000))
    found: list[dict[str, Any]] = []
    for folder in _folders(referee, arguments):
        found += await folder.ask(functools.partial(_remaining, folder, limit))
    return {"remaining": found[:limit]}


async def _remaining(folder: FolderReferee, limit: int) -> list[dict[str, Any]]:
    page = [path for _, path in await folder.store.todo((0, b""), limit)]
    await folder.fetch(page)
    return [
        _row(folder, path, service, kind="left", reason=await _next(folder, service, path))
        for path in page
        for service in await folder.at_hand(functools.partial(left, folder.view, folder.rules, path))
        if (service, path) not in folder.troubled and not folder.links[service].guard.quarantined
    ]


async def conflicts(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """Conflict copies that stand."""
    return {
        "conflicts": [
            {"folder": folder.folder, "path": paths.show(copy), "of": paths.show(of)}
            for folder in _folders(referee, arguments)
            for copy, of in sorted((await folder.store.conflicts()).items())
        ]
    }


async def journal(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """The newest decisions, newest first."""
    return {"entries": await _entries(referee, arguments, None)}


async def _entries(referee: RefereeService, arguments: dict[str, Any], path: bytes | None) -> list[dict[str, Any]]:
    limit = int(arguments.get("limit", 50))
    found = [
        _row(folder, e.path, e.service, time=e.time, case=e.case, outcome=e.outcome, detail=e.detail, id=e.id)
        for folder in _folders(referee, arguments)
        for e in await folder.store.journal(path, limit, _after(arguments, folder.folder))
    ]
    return sorted(found, key=lambda e: e["time"], reverse=True)[:limit]


def _after(arguments: dict[str, Any], folder: str) -> str:
    """After which line of a folder's journal somebody wants those that came; empty: all."""
    after = arguments.get("after") or {}
    number = after.get(folder, "") if isinstance(after, dict) else after
    if number and not (isinstance(number, str) and _LINE.fullmatch(number)):
        raise OnituError(f"after: {number!r} is no number of a line of the journal")
    return str(number)


async def explain(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """What is known of a path, why, and what is to become of it on each service."""
    path = _path(arguments["path"])
    nodes: dict[str, Any] = {}
    services: dict[str, str] = {}
    for folder in _folders(referee, arguments):
        node = await folder.ask(functools.partial(_node, folder, path))
        if node.empty:
            continue
        nodes[folder.folder] = _describe(node)
        for name in folder.links:
            services[f"{folder.folder} on {name}" if len(referee.folders) > 1 else name] = await folder.ask(
                functools.partial(_sentence, folder, name, path)
            )
    entries = await _entries(referee, arguments, path)
    if not nodes and not entries:
        raise OnituError(f"nothing is known of {paths.show(path)}")
    return {"nodes": nodes, "services": services, "entries": entries}


def _path(given: str | bytes) -> bytes:
    """The path that somebody asks for, whatever bytes are in it. Raises `OnituError` where it is none."""
    name = (given if isinstance(given, bytes) else str(given).encode("utf-8", "surrogateescape")).strip(b"/")
    try:
        return paths.key(paths.checked(name))
    except paths.BadPath:
        raise OnituError(f"{paths.show(name)!r} is not a path within a folder") from None


async def _node(folder: FolderReferee, path: bytes) -> Node:
    return await folder.at_hand(lambda: folder.view[path])


async def _sentence(folder: FolderReferee, service: str, path: bytes) -> str:
    """What a service holds at a path and what comes next there, in words."""
    if (service, path) in folder.troubled:
        for problem in await folder.store.problems(None, 1_000_000):
            if (problem.service, problem.path) == (service, path):
                return f"{problem.kind}: {problem.reason}"
    return await _next(folder, service, path)


async def _next(folder: FolderReferee, service: str, path: bytes) -> str:
    """The same, where there is no problem."""
    node = await folder.at_hand(lambda: folder.view[path])
    link, held = folder.links[service], node.held.get(service)
    if held is not None and held.hidden:
        return "hidden by the rules: it stays as it is and is not managed here"
    if held is not None and held.gone:
        return f"deleted here, but held back until `onitu approve {service}`"
    if path in link.busy:
        return "an order is under way"
    todo = await folder.at_hand(lambda: plan(folder.view, folder.rules, service, path, folder.sources()))
    if todo.left:
        return todo.why or (f"waits for its turn: {todo.order.do.name.lower()}" if todo.order else "waits")
    if node.head.exists and (held is None or same_content(held.version, node.head) is Same.NO):
        reason = folder.rules.hides(service, path, node.head)
        return f"not managed here: {reason}" if reason else "the rules do not put it here"
    return "holds the head" if held is not None and node.head.exists else "holds nothing, as it should be"


def _describe(node: Node) -> dict[str, Any]:
    return {
        "path": paths.show(node.path),
        "head": _version(node.head),
        "held": {service: _version(held.version) for service, held in node.held.items()},
    }


def _version(version: Version) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": version.kind.name.lower()}
    if version.exists:
        described |= {"size": version.size, "mtime": version.mtime, "mode": f"{version.mode:04o}"}
        described |= {name: digest.hex() for name, digest in version.digests.items()}
    if version.link:
        described["link"] = paths.show(version.link)
    return described | {"service": version.service, "seq": version.seq - (era(version.seq) << 40)}


async def pause(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """Send no more orders to a service, or to all."""
    return await _set_paused(referee, arguments, True)


async def resume(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """Go on after a pause; what failed is tried again at once."""
    return await _set_paused(referee, arguments, False)


async def _set_paused(referee: RefereeService, arguments: dict[str, Any], paused: bool) -> dict[str, Any]:
    async def one(folder: FolderReferee, service: str) -> None:
        record = msgspec.structs.replace(folder.record(service), paused=paused)
        folder.records[service] = record
        await folder.store.commit(Change(services={service: record}))
        link = folder.links[service]
        link.paused = paused
        link.retry.clear()
        link.restart()

    return {"services": await _each(referee, arguments, one)}


async def rescan(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """Have services look at everything again."""

    async def one(folder: FolderReferee, service: str) -> None:
        link = folder.links[service]
        link.retry.clear()
        link.restart()
        if link.usable:
            link.scanned = False
            folder.settled = trio.Event()
            await folder.rescan(service)

    return {"services": await _each(referee, arguments, one)}


async def approve(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """Believe deletions that were held back (`restore`: take them back), and accept a replica that was refused."""
    restore, total = bool(arguments.get("restore", False)), 0
    accepted: list[str] = []

    async def one(folder: FolderReferee, service: str) -> None:
        nonlocal total
        link = folder.links[service]
        if link.refused and not restore:
            await folder.forget(service)
            await folder.store.commit(Change(services={service: folder.records[service]}))
            link.trouble, link.refused = "", False
            folder.settled = trio.Event()  # it is to be looked at
            accepted.append(service)
        else:
            total += await folder.approve(service, restore)

    await _each(referee, arguments, one)
    for service in dict.fromkeys(accepted):
        await referee.send(service, Command("hello"))
    return {"paths": total, "accepted": accepted}


async def planned(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """What would be done now, without doing it (`onitu sync --dry-run`)."""
    limit = int(arguments.get("limit", 100_000))
    found: list[dict[str, Any]] = []
    for folder in _folders(referee, arguments):
        found += await folder.ask(functools.partial(_planned, folder, limit))
    return {"orders": found[:limit]}


async def _planned(folder: FolderReferee, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = (0, b"")
    while page := await folder.store.todo(cursor, PAGE):
        cursor = page[-1]
        await folder.fetch(path for _, path in page)
        for _, path in page:
            for service in folder.links:
                todo = await folder.at_hand(
                    functools.partial(plan, folder.view, folder.rules, service, path, frozenset(folder.links))
                )
                if todo.order is not None:
                    row = _row(
                        folder,
                        todo.order.path,
                        service,
                        do=todo.order.do.name.lower(),
                        bytes=todo.order.version.size,
                    )
                    if todo.order.target:
                        row["target"] = paths.show(todo.order.target)
                    found.append(row)
        if len(found) >= limit:
            break
    return found


async def check(referee: RefereeService, arguments: dict[str, Any]) -> dict[str, Any]:
    """Read every replica, compare everything, change nothing; see `checking.check`. For `timeout` seconds at most."""
    folders = _folders(referee, arguments)
    troubles = {folder.folder: await folder.store.problems(None, 1_000_000) for folder in folders}
    known = {(name, p.service, p.path): f"{p.kind}: {p.reason}" for name, found in troubles.items() for p in found}

    async def sentence(folder: FolderReferee, service: str, path: bytes) -> str:
        return known.get((folder.folder, service, path)) or await _next(folder, service, path)

    return await checking.check(referee, folders, sentence, float(arguments.get("timeout", 3600.0)))


async def _each(
    referee: RefereeService, arguments: dict[str, Any], what: Callable[[FolderReferee, str], Awaitable[None]]
) -> list[str]:
    """Do something with each service that was named, or with all."""
    wanted = arguments.get("service")
    if wanted is not None and wanted not in referee.settings.services:
        raise OnituError(f"there is no service {wanted!r}: {', '.join(sorted(referee.settings.services))}")
    done: list[str] = []
    for folder in _folders(referee, arguments):
        for service in folder.links:
            if wanted in (None, service):
                await folder.ask(functools.partial(what, folder, service))
                done.append(service)
    return sorted(set(done))


def _folders(referee: RefereeService, arguments: dict[str, Any]) -> list[FolderReferee]:
    wanted = arguments.get("folder")
    if wanted is None:
        return list(referee.folders.values())
    if wanted not in referee.folders:
        raise OnituError(f"there is no folder {wanted!r}: {', '.join(sorted(referee.folders))}")
    return [referee.folders[wanted]]


def _row(folder: FolderReferee, path: bytes, service: str, **more: Any) -> dict[str, Any]:
    return {"folder": folder.folder, "path": paths.show(path), "service": service, **more}


QUESTIONS: dict[str, Answering] = {
    "status": status,
    "settled": settled,
    "sealed": sealed,
    "problems": problems,
    "remaining": remaining,
    "conflicts": conflicts,
    "log": journal,
    "explain": explain,
    "pause": pause,
    "resume": resume,
    "rescan": rescan,
    "approve": approve,
    "planned": planned,
    "check": check,
}
