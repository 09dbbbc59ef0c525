"""A glance: whether a service is as it was when the last run ended with everything in sync.

Then there is nothing to do, and neither store nor Referee need be started to find that out: one look at what stands on
each service, and the tallies of the last run, tell it (`onitu.model.tally`). A glance only looks; it concludes nothing
else. Whatever it finds that it did not expect, and whatever goes wrong in it, is left to a whole run.

A driver may bring a function that glances at one of its replicas (`onitu.plug.catalogue.glance`): nothing is loaded for
it that only a run needs. For the other services the driver itself looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from onitu.model.settings import Filter, Settings
from onitu.model.tally import Sealed, Tally

from . import catalogue

if TYPE_CHECKING:
    from .driver import Driver


def unchanged_at_once(
    settings: Settings, service: str, sealed: Mapping[str, Sealed], check: Callable[[], None]
) -> bool:
    """As `unchanged`, for a service whose driver brings a function for it. It blocks, and needs no Trio.

    `check` is called now and then: what it raises ends the glance.
    """
    configured = settings.services[service]
    glance = catalogue.glance(configured.driver)
    try:
        return glance is not None and all(
            folder in sealed and glance(replica.path, _hiding(settings, service, folder), sealed[folder], check)
            for folder, replica in configured.replicas.items()
        )
    except Exception:  # of whatever kind: it is met again by who can tell it to people
        return False


async def unchanged(settings: Settings, service: str, sealed: Mapping[str, Sealed]) -> bool:
    """Whether everything of a service is as it was. `sealed`: by folder.

    Raises nothing but what cancels it: the whole run that follows says what is wrong.
    """
    import logbook

    try:
        driver = catalogue.made(settings, service)
        driver.look_only = True
        with logbook.NullHandler().contextbound():
            async with driver.open():
                for folder in driver.roots:
                    if folder not in sealed or not await _replica_unchanged(driver, settings, folder, sealed[folder]):
                        return False
    except Exception:  # of whatever kind, from whatever library: it is met again by who can tell it to people
        return False
    return True


async def _replica_unchanged(driver: Driver, settings: Settings, folder: str, sealed: Sealed) -> bool:
    identity = await driver.identify(folder)
    if not sealed.is_of(identity.marker, identity.generation, identity.pending) or not await driver.at_rest(folder):
        return False
    seen = await driver.tally(folder, _hiding(settings, driver.service, folder), sealed.time)
    known = Tally.read(sealed.tally)
    return seen is not None and known is not None and seen.agrees(known, driver.capabilities(folder).modes)


def _hiding(settings: Settings, service: str, folder: str) -> list[Filter]:
    """The filters of a replica that hide anything."""
    both = (settings.folders[folder].filter, settings.services[service].replicas[folder].filter)
    return [one for one in both if one != Filter()]
