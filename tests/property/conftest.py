"""How hard Hypothesis tries: `ci` (always the same examples) or, with `ONITU_SOAK=N`, N times as many new ones."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=100, suppress_health_check=SLOW)
settings.register_profile(
    "soak",
    deadline=None,
    max_examples=100 * int(os.environ.get("ONITU_SOAK", "1")),
    print_blob=True,
    suppress_health_check=SLOW,
)
settings.load_profile("soak" if os.environ.get("ONITU_SOAK") else "ci")
