"""One world for all tests of this room: tests that change its provisioning change it back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from peers.fixtures import ARTIFACTS, keep, pytest_runtest_makereport
from plan_world import PBX, PlanWorld

__all__ = ["pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def standing_plan(request: pytest.FixtureRequest) -> Iterator[PlanWorld]:
    """Its folder under tests/_artifacts stays when a test failed."""
    folder = ARTIFACTS / ("sipp_scenarios_dialplan" + os.environ.get("PYTEST_XDIST_WORKER", ""))
    shutil.rmtree(folder, ignore_errors=True)
    world = PlanWorld(folder, {"t1": 0.1})
    try:
        world.start()
        for name in ("b.schmidt", "desk.one", "desk.shy", "c.lent", "a.jones"):
            world.register(name)
        world.register("desk.busy", "uas_reject", status=486, reason="Busy Here")
        world.register("desk.slow", "uas_ringing_forever")
        world.register("hq-k1001", address=PBX)
        yield world
        world.stop()
    finally:
        world.discard()
    if not request.session.testsfailed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def plan(request: pytest.FixtureRequest, standing_plan: PlanWorld) -> Iterator[PlanWorld]:
    """The world; after each test the edge must be at rest."""
    mark = standing_plan.edge.mark
    yield standing_plan
    try:
        standing_plan.edge.assert_at_rest(mark)
    except AssertionError:
        keep(request.node)
        raise
