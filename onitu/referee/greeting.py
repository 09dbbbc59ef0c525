"""Whether a replica is the one that the state speaks of.

A replica proves itself by its marker and by the *generation* in it, which changes with each start of its driver. A
replica that was swapped, emptied, unmounted or restored from a backup, and a state that lags behind, show here, before
anything is concluded from what is absent (S6).
"""

from __future__ import annotations

import logbook
import msgspec

from onitu.store.interface import Change
from onitu.wire.messages import Expected, Hello, ReplicaState

from .folder import FolderReferee

log = logbook.Logger("referee")


async def greet(folder: FolderReferee, service: str, hello: Hello, state: ReplicaState) -> Expected:
    """Decide whether to accept a replica; runs in the folder's own task."""
    link, record = folder.links[service], folder.record(service)
    link.connect(hello.epoch, hello.credit)
    link.connected = False
    link.trouble, link.refused = state.trouble, False
    if state.trouble:
        log.error("{} on {}: {}", folder.folder, service, state.trouble)
        return Expected(False, 0, 0, reason=state.trouble)
    if (reason := _stranger(folder, service, state)) is not None:
        link.trouble, link.refused = reason, True
        log.error("{} on {}: {}", folder.folder, service, reason)
        folder._tell("trouble", folder.folder, {"service": service, "reason": reason})
        return Expected(False, 0, 0, reason=reason)
    if state.marker and record.generation and record.generation not in (state.generation, state.pending):
        log.warning(
            "{} on {} is of another time than the state (a restored backup? synchronised with another state?): it is "
            "compared like a new one, and what is missing there is deleted nowhere", folder.folder, service,
        )  # fmt: skip
        await folder.forget(service)
        record = folder.record(service)
    generation = state.pending or max(state.generation, record.generation, 1)
    number = record.number if record.epoch == hello.epoch else 0
    record = msgspec.structs.replace(
        record, marker=state.marker or record.marker, generation=generation, epoch=hello.epoch, number=number
    )
    folder.records[service] = record
    await folder.store.commit(Change(services={service: record}))
    return Expected(True, generation, record.known, number, tally=bytes(folder.tallies[service]))


def _stranger(folder: FolderReferee, service: str, state: ReplicaState) -> str | None:
    """Why the replica is not the one that the state speaks of; None: it is, or the state knows none."""
    record = folder.record(service)
    if not record.marker:
        return None
    remedy = (
        f"if this is as it should be, `onitu approve {service}` (or `onitu sync … --approve`) takes it as a new one"
    )
    if not state.marker:
        return f"the replica's marker is gone: is its disk mounted, was it emptied or replaced? {remedy}"
    if state.marker != record.marker:
        return f"this is another replica than before: is the right disk mounted? {remedy}"
    return None
