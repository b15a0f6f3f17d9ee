"""Peers for the tests of this room."""

from peers.fixtures import certificate, folder, peers, pytest_runtest_makereport
from peers.world import standing_world, world

__all__ = ["certificate", "folder", "peers", "pytest_runtest_makereport", "standing_world", "world"]
