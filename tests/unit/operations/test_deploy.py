"""What starts an edge in the field: the unit as systemd reads it, the container files as far as they can be read.

No container engine is asked: images are not built here.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from config.settings import check_settings, load_settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "sip-edge.service"


@pytest.mark.adapter
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """No unknown setting, nothing misspelt; and what the unit can reach is little (exposure at most 1.5 of 10)."""
    unit = tmp_path / "sip-edge.service"
    unit.write_text(UNIT.read_text().replace("/opt/sip-edge/.venv/bin/sip-edge", "/bin/true"))
    read = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    complaints = [line for line in read.stderr.splitlines() if unit.name in line]
    assert read.returncode == 0 and not complaints, read.stderr
    checked = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout[-400:] + checked.stderr


def test_the_unit_starts_what_there_is() -> None:
    """It waits for the edge's own word, is watched, and reloads with the command that there is."""
    text = UNIT.read_text()
    assert "Type=notify" in text and re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)
    assert "RestartKillSignal=SIGUSR1" in text and "KillMode=process" in text and "StartLimitIntervalSec=0" in text
    commands = re.findall(r"^Exec\w+=\S*/sip-edge (\w+)", text, re.MULTILINE)
    assert commands == ["run", "reload"]
    shown = subprocess.run([str(ROOT / ".venv/bin/sip-edge"), "--help"], capture_output=True, text=True)
    assert all(f" {command} " in shown.stdout for command in commands)


def test_the_image_has_what_the_program_needs() -> None:
    """Every package of the wheel is copied, every source exists, and nobody is root."""
    text = (DEPLOY / "Containerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert all((ROOT / source).exists() for source in sources)
    packages = re.search(r"packages = \[(.*)\]", (ROOT / "pyproject.toml").read_text().partition("wheel]")[2])
    assert packages is not None
    assert set(re.findall(r'"(\w+)"', packages[1])) <= set(sources)
    assert text.rindex("USER sip-edge") > text.rindex("RUN ")
    wanted = re.search(r'run\) wanted="([^"]*)"', (ROOT / "scripts/install-debian").read_text())
    assert wanted is not None and all(package in text for package in wanted[1].split())


def test_the_compose_file_fits_the_image() -> None:
    """Its paths exist, its commands are ours, the environment it sets is of settings that there are, nothing runs with
    more rights than it needs, and what the edge needs to take its calls over is kept outside its container."""
    services = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]
    edge = services["edge"]
    assert (DEPLOY / edge["build"]["context"] / edge["build"]["dockerfile"]).resolve() == DEPLOY / "Containerfile"
    shown = subprocess.run([str(ROOT / ".venv/bin/sip-edge"), "--help"], capture_output=True, text=True).stdout
    ours = {name: service for name, service in services.items() if service["image"] == "sip-edge"}
    assert set(ours) == {"edge", "relay", "schema"}
    for service in ours.values():
        assert f" {service['command'][0]} " in shown
        assert service["command"][-2:] == ["--config", "/etc/sip-edge/edge.toml"]
        assert service["cap_drop"] == ["ALL"] and service["read_only"]
        assert service["volumes"] == edge["volumes"] and service["environment"] == edge["environment"]
    assert all(service["network_mode"] == "host" for service in services.values())
    assert "listen_addresses=127.0.0.1" in services["database"]["command"]
    environment = {name: re.sub(r"\$\{\w+:[?-][^}]*\}", "", value) for name, value in edge["environment"].items()}
    settings = load_settings(ROOT / "config/example.toml", environment)
    assert not [fault for fault in check_settings(settings, environment) if "environment" in fault]
    kept = edge["volumes"][0].partition(":")[2]
    assert (
        str(settings.relay_socket).startswith(f"{kept}/")
        and f"SIP_EDGE_DATA_DIR={kept}" in (DEPLOY / "Containerfile").read_text()
    )
