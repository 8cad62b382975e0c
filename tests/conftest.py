"""What all tests share: Hypothesis profiles, ports, and the check that nothing is left running."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.repository import leftovers

# No deadlines: a loaded machine is no bug. `ci` looks at more examples, new ones on every run, and
# prints what replays a failure.
settings.register_profile(
    "dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=100,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listened on a moment ago. Where a server can be given
    port 0 and asked what it got, do that instead: nobody can take that port in between."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fails the session (each xdist worker has one) that leaves a process running, and ends it."""
    token = uuid.uuid4().hex
    os.environ[leftovers.TOKEN_NAME] = token
    before = {one.pid for one in leftovers.find(token)}
    yield
    left = [one for one in leftovers.find(token) if one.pid not in before]
    leftovers.end(left)
    assert not left, "tests left processes running: " + "; ".join(
        f"{one.pid} {one.command}" for one in left
    )
