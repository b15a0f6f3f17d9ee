"""Fixtures that start peers for one test, stop them after it, and keep their logs when it failed.

Imported by the conftest files of the rooms that test the running edge.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from peers.baresip import Baresip
from peers.certificates import Certificate, issue
from peers.kamailio import Kamailio
from peers.linphone import Linphone
from peers.phone import Account, Phone
from peers.pjsua import Pjsua
from peers.sipp import Sipp

ARTIFACTS = Path(__file__).resolve().parents[2] / "_artifacts"
KINDS: dict[str, Callable[..., Phone]] = {"baresip": Baresip, "pjsua2": Pjsua, "linphone": Linphone}

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        keep(item)
    return report


def keep(item: pytest.Item | pytest.Collector) -> None:
    """Keep the artifacts of this test and of its module: something failed."""
    for node in item.listchain():
        node.stash[_failed] = True


@contextmanager
def artifacts(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of the requesting test or module under tests/_artifacts, removed unless something failed in it."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", request.node.nodeid.removeprefix("tests/")).strip("_")
    # what two workers share by its name, such as a world for a whole folder of tests, is made by each for itself
    path = ARTIFACTS / ((name or "session") + os.environ.get("PYTEST_XDIST_WORKER", ""))
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    except BaseException:
        keep(request.node)
        raise
    if not request.node.stash.get(_failed, False):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for everything that the test's peers write; kept under tests/_artifacts when the test failed."""
    with artifacts(request) as path:
        yield path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A server certificate for loopback and the names that tests use."""
    return issue(
        tmp_path_factory.mktemp("certificate"),
        "edge.example",
        "carrier.example",
        "127.0.0.1",
        "127.0.0.21",
        "127.0.0.23",
    )


class Peers:
    """Starts peers in folders of their own and stops all of them, the last first."""

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        self._folder = folder
        self._certificate = certificate
        self._running: list[Phone | Kamailio | Sipp] = []

    def phone(self, kind: str, account: Account, **options: object) -> Phone:
        """A phone of this kind (KINDS); it has not yet registered (`wait_registered`)."""
        if account.transport == "tls":
            options.setdefault("ca_file", self._certificate.authority)
        phone = KINDS[kind](account, self._new_folder(account.username), **options)
        self._running.append(phone)
        return phone

    def pjsua(self, account: Account, **options: object) -> Pjsua:
        phone = self.phone("pjsua2", account, **options)
        assert isinstance(phone, Pjsua)
        return phone

    def kamailio(self, passwords: dict[str, str], **options: object) -> Kamailio:
        kamailio = Kamailio(self._new_folder("kamailio"), passwords, **options)  # type: ignore[arg-type]
        self._running.append(kamailio)
        return kamailio

    def sipp(self, scenario: str, **options: object) -> Sipp:
        sipp = Sipp(scenario, self._folder / "sipp", **options)  # type: ignore[arg-type]
        self._running.append(sipp)
        return sipp

    def stop_phones(self) -> None:
        """Stop the phones alone, so that their recordings are complete and their registrations gone."""
        for peer in reversed(self._running):
            if not isinstance(peer, Kamailio | Sipp):
                peer.stop()
        self._running = [peer for peer in self._running if isinstance(peer, Kamailio | Sipp)]

    def stop(self) -> None:
        while self._running:
            self._running.pop().stop()

    def _new_folder(self, name: str) -> Path:
        path = self._folder / name
        number = 1
        while path.exists():
            number += 1
            path = self._folder / f"{name}-{number}"
        return path


@pytest.fixture
def peers(folder: Path, certificate: Certificate) -> Iterator[Peers]:
    running = Peers(folder, certificate)
    try:
        yield running
    finally:
        running.stop()
