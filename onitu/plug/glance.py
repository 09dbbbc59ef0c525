"""A glance: whether a service is as it was when the last run ended with everything in sync.

Then there is nothing to do, and neither store nor Referee need be started to find that out: one look at what stands on
each service, and the tallies of the last run, tell it (`onitu.model.tally`). A glance only looks; it concludes nothing
else. Whatever it finds that it did not expect, and whatever goes wrong in it, is left to a whole run.
"""

from __future__ import annotations

from collections.abc import Mapping

import logbook

from onitu.model.settings import Filter, Settings
from onitu.model.tally import Sealed, Tally

from . import catalogue
from .driver import Driver


async def unchanged(settings: Settings, service: str, sealed: Mapping[str, Sealed]) -> bool:
    """Whether everything of a service is as it was. `sealed`: by folder.

    Raises nothing but what cancels it: the whole run that follows says what is wrong.
    """
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
    hiding = (settings.folders[folder].filter, settings.services[driver.service].replicas[folder].filter)
    seen = await driver.tally(folder, [one for one in hiding if one != Filter()], sealed.time)
    known = Tally.read(sealed.tally)
    return seen is not None and known is not None and seen.agrees(known, driver.capabilities(folder).modes)
