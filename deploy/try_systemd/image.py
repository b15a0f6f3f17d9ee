"""A Debian 12 with systemd, PostgreSQL and the edge in /opt/sip-edge: `image.py FOLDER` makes it in FOLDER/root.

Debian and the wheels of what the edge needs are fetched once; each run installs the edge anew from this checkout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "systemd-sysv", "dbus", "python3", "python3-venv", "ca-certificates", "libspandsp2", "postgresql", "procps",
)  # fmt: skip
PIP = "/opt/sip-edge/.venv/bin/pip"


def main() -> None:
    """Make what is missing."""
    for tool in ("mmdebstrap", "systemd-nspawn"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: apt-get install mmdebstrap systemd-container")
    if os.geteuid() != 0:
        sys.exit("deploy/try-systemd wants root")
    folder = Path(sys.argv[1])
    root, wheels = folder / "root", folder / "wheels"
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    needs = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted = hashlib.sha256(repr((PACKAGES, needs)).encode()).hexdigest()
    made = folder / "made"
    if not made.exists() or made.read_text() != wanted:
        for old in (root, wheels):
            shutil.rmtree(old, ignore_errors=True)
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        sys.stdout.write("fetching Debian 12 and wheels, once\n")
        sys.stdout.flush()
        tree = folder / "root.tar"
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(tree))
        root.mkdir()
        run("tar", "-C", str(root), "-xf", str(tree))
        tree.unlink()
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels), *needs)
        run("chroot", str(root), "python3", "-m", "venv", "/opt/sip-edge/.venv")
        shutil.copytree(wheels, root / "opt/wheels")
        install(root, *project["project"]["dependencies"])
        made.write_text(wanted)
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--find-links", str(wheels),
        "--wheel-dir", str(root / "opt/wheels"), str(CHECKOUT),
    )  # fmt: skip
    install(root, "--no-deps", "--force-reinstall", "sip-edge")
    for name in ("deploy/sip-edge.service", "config/example.toml"):
        shutil.copy(CHECKOUT / name, root / "opt/sip-edge")


def install(root: Path, *what: str) -> None:
    """Install wheels in the system, without the network."""
    run("chroot", str(root), PIP, "install", "--quiet", "--no-index", "--find-links", "/opt/wheels", *what)


def run(*command: str) -> None:
    """Run a command; its words are the failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
