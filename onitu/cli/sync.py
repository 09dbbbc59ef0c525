"""`onitu sync`: any number of replicas, once or for as long as it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import msgspec

from . import options, output
from .failing import IN_SYNC, INTERRUPTED, NOT_IN_SYNC
from .journal import Follower
from .output import Output

if TYPE_CHECKING:
    import trio

    from onitu.model.settings import Settings
    from onitu.supervisor.headstart import HeadStart
    from onitu.supervisor.run import Supervisor
    from onitu.supervisor.seal import Seal
    from onitu.wire.messages import News

LISTED = 100
"""How many paths that are not in sync are listed; the rest is counted."""


@click.command()
@click.argument("replicas", nargs=-1, required=True, metavar="REPLICA REPLICA…")
@click.option("--watch", is_flag=True, help="Go on, and synchronise each change as it is made, until interrupted.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--approve",
    is_flag=True,
    help="Let deletions through that were held back as too many; accept a replica that was refused.",
)
@click.option(
    "--prefer", default="", metavar="REPLICA", help="Who keeps the name in a conflict.  [default: the newest]"
)
@click.option(
    "--state", default="", metavar="DIR", help="The state directory.  [default: one for this set of replicas]"
)
@options.as_json
@options.verbose
@options.quiet
def sync(
    replicas: tuple[str, ...],
    watch: bool,
    dry_run: bool,
    approve: bool,
    prefer: str,
    state: str,
    json: bool,
    verbose: bool,
    quiet: bool,
) -> int:
    """Make replicas the same, in all directions, and keep both where two users changed one file.

    A replica is a directory, or a URL: sftp://USER@HOST/PATH, s3://BUCKET/PREFIX, dav://HOST/PATH, davs://, ftp://,
    ftps://, rclone:REMOTE:PATH. `onitu drivers` lists what each kind takes.

    Run again with the same replicas, it goes on from what it knew: what was deleted on one is deleted on the others.
    A directory that does not exist is made, if the one above it exists.

    \b
    onitu sync ~/Docs /mnt/usb/Docs
    onitu sync ~/Docs /mnt/usb/Docs /mnt/nas/Docs --watch
    onitu sync ~/Docs /mnt/usb/Docs --dry-run
    onitu sync ~/Docs /mnt/usb/Docs --prefer ~/Docs
    """
    from . import session, urls

    if dry_run and watch:
        raise click.UsageError("--dry-run does nothing that could be watched: leave out --watch or --dry-run.")
    plan = urls.plan(replicas, prefer=prefer, state=state, watch=watch, dry_run=dry_run, ask=_asker())
    urls.make_missing(plan.missing)
    out = Output(json=json, quiet=quiet, verbose=verbose)
    if dry_run:
        from . import rehearsal

        with rehearsal.copied(plan.settings) as settings:
            return session.run(settings, _Run(settings, out, approve).dry)
    run = _Run(plan.settings, out, approve)
    return session.run(plan.settings, run.through, None if watch else run.at_rest)


def _asker() -> Callable[[str], str] | None:
    """What asks for a secret at the terminal, without showing it; None: there is none."""
    if not sys.stdin.isatty():
        return None
    return lambda question: str(click.prompt(question, hide_input=True, err=True))


class _Run(msgspec.Struct):
    """One `sync`.

    Attributes:
        settings: what is run.
        out: where words go.
        approve: let deletions through that the guard held back.
        chatty: whether people are told each thing that happens.
        began: when it started, for the summary.
        status: the last one that was seen.
        journal: the decisions of this run.
        decided: set once there is something new in it.
    """

    settings: Settings
    out: Output
    approve: bool = False
    chatty: bool = False
    began: float = msgspec.field(default_factory=time.monotonic)
    status: dict[str, Any] | None = None
    journal: Follower | None = None
    decided: trio.Event | None = None

    async def through(self, head_start: HeadStart) -> int:
        """Synchronise; go on watching where that was asked for. The exit code."""
        import trio

        from onitu.supervisor import seal

        from .session import GLANCE, LATEST, answer, follow_news, follower, session, settled

        code = INTERRUPTED
        sealed: dict[str, Any] = {}
        self.decided = trio.Event()
        self.chatty = self.out.verbose
        async with session(self.settings, head_start, verbose=self.out.verbose, quiet=self.out.quiet) as supervisor:
            self.journal = follower(supervisor, time.time())
            async with trio.open_nursery() as nursery:
                if self.out.json or self.settings.watch or self.out.verbose:
                    nursery.start_soon(follow_news, supervisor, self._tell)
                with self.out.progress() as bar:
                    self.status = await settled(supervisor, bar.show)
                    if self.approve and await _approved(supervisor, self.status):
                        self.status = await settled(supervisor, bar.show)
                settled_at = time.time()
                code = await self._report(supervisor, self.status)
                if self.settings.watch:
                    if not (self.out.json or self.chatty):  # of what was done so far the sum was told
                        self.chatty, self.journal = True, follower(supervisor, settled_at)
                    self.out.say("watching; Ctrl-C ends it")
                    while True:
                        await self._tell_decisions()
                        with trio.move_on_after(LATEST):
                            await self.decided.wait()
                        self.decided = trio.Event()
                        await trio.sleep(GLANCE)
                if code == IN_SYNC:
                    sealed = (await answer(supervisor, "sealed"))["sealed"]
                nursery.cancel_scope.cancel()
        if supervisor.interrupted:
            return self._interrupted()
        if sealed:
            seal.put(self.settings, sealed, output.at_rest(self.status))
        return code

    def at_rest(self, found: Seal) -> int:
        """Tell that nothing has changed since the last run. The exit code."""
        self._sum_up(found.status, [])
        return IN_SYNC

    async def dry(self, head_start: HeadStart) -> int:
        """Say what would be done. The exit code."""
        from .session import answer, session, settled

        code = INTERRUPTED
        async with session(self.settings, head_start, verbose=self.out.verbose, quiet=self.out.quiet) as supervisor:
            with self.out.progress() as bar:
                status = await settled(supervisor, bar.show)
            orders = (await answer(supervisor, "planned"))["orders"]
            for order in orders:
                self.out.result({"type": "planned", **order}, [planned_line(order)])
            wrong = troubles(status)
            for line in wrong:
                self.out.complain(line)
            self.out.say(f"a dry run: {output.count(len(orders), 'order')} would be given, nothing was changed")
            code = NOT_IN_SYNC if wrong else IN_SYNC
        return self._interrupted() if supervisor.interrupted else code

    async def _report(self, supervisor: Supervisor, status: dict[str, Any]) -> int:
        """Tell how it ended, and why some paths are not in sync."""
        from .session import answer

        await self._tell_decisions()
        good = output.is_in_sync(status)
        problems: list[dict[str, Any]] = []
        if not good:
            problems = (await answer(supervisor, "problems", limit=LISTED))["problems"]
            problems = [problem for problem in problems if problem.get("kind") != "hidden"]
            problems += (await answer(supervisor, "remaining", limit=LISTED))["remaining"]
            for line in [*troubles(status), *output.problem_lines(problems)]:
                self.out.complain(line)
        elif output.did_something(status) and output.totals(status)["conflicts"] and not self.out.quiet:
            for conflict in (await answer(supervisor, "conflicts"))["conflicts"][:LISTED]:
                self.out.say(f"conflict copy: {conflict.get('path')} (of {conflict.get('of')})")
        self._sum_up(status, problems)
        return IN_SYNC if good else NOT_IN_SYNC

    def _sum_up(self, status: dict[str, Any], problems: list[dict[str, Any]]) -> None:
        """The last word."""
        seconds = time.monotonic() - self.began
        if self.out.json:
            output.emit(
                {
                    "type": "summary",
                    "in_sync": output.is_in_sync(status),
                    "seconds": round(seconds, 3),
                    **output.totals(status),
                    "problems": problems,
                    "folders": status.get("folders", {}),
                }
            )
        self.out.say(output.summary(status, seconds))

    async def _tell_decisions(self) -> None:
        """Tell what was decided since the last call."""
        if self.journal is None or not (self.out.json or self.chatty):
            return
        for entry in await self.journal.new():
            if self.out.json:
                output.emit({"type": "decision", **entry})
            elif self.chatty:
                self.out.say(output.entry_line(entry))

    def _tell(self, news: News) -> None:
        """Something happened."""
        if news.topic == "decided":
            if self.decided is not None:
                self.decided.set()
        elif self.out.json:
            output.emit({"type": news.topic, "folder": news.folder, **news.data})
        elif self.chatty and news.topic == "trouble":
            self.out.say(output.news_line(news.topic, news.data))

    def _interrupted(self) -> int:
        self.out.say("interrupted; what was begun is whole, and the next run goes on from here")
        return INTERRUPTED


async def _approved(supervisor: Supervisor, status: dict[str, Any]) -> bool:
    """Let through what was held back, and accept replicas that were refused; whether there was anything."""
    from .session import answer

    asked: set[str] = set()
    for folder in status.get("folders", {}).values():
        asked |= {name for name, number in folder.get("quarantined", {}).items() if number}
        asked |= {name for name, service in folder.get("services", {}).items() if service.get("refused")}
    for name in sorted(asked):
        await answer(supervisor, "approve", service=name)
    return bool(asked)


def troubles(status: dict[str, Any]) -> list[str]:
    """What is wrong with whole services, and deletions that are held back."""
    lines = []
    for folder in status.get("folders", {}).values():
        for name, service in folder.get("services", {}).items():
            if service.get("trouble"):
                lines.append(f"{name}: {service['trouble']}")
        for name, held in folder.get("quarantined", {}).items():
            if held:
                lines.append(
                    f"{name}: {output.count(held, 'deletion')} held back, as more than half of the folder would go; "
                    "--approve lets them through"
                )
    return list(dict.fromkeys(lines))


_DOING = {
    "put": "would copy to",
    "delete": "would delete on",
    "move": "would rename on",
    "meta": "would set mode and time on",
    "fingerprint": "would read on",
}


def planned_line(order: dict[str, Any]) -> str:
    """One order of a dry run."""
    doing = _DOING.get(str(order.get("do")), str(order.get("do")))
    target = f" → {order['target']}" if order.get("target") else ""
    size = f" ({output.count(order['bytes'], 'byte')})" if order.get("do") == "put" and order.get("bytes") else ""
    return f"{doing} {order.get('service')}: {order.get('path')}{target}{size}"
