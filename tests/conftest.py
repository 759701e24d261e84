"""For every test: Hypothesis profiles (HYPOTHESIS_PROFILE picks one, CI=true picks `ci`), and signals."""

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=40, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "nightly",
    max_examples=5000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "dev")
)

# A shell ignores SIGINT for what it runs in the background, and whoever ignores it passes that on: the
# programs that tests interrupt would not hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)
