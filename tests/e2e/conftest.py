"""Peers for the tests of this room."""

from peers.fixtures import certificate, folder, peers, pytest_runtest_makereport

__all__ = ["certificate", "folder", "peers", "pytest_runtest_makereport"]
