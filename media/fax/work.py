"""Making documents, in a process of its own: it costs CPU, and what it reads comes from strangers."""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from media.fax.document import About, DocumentError, make_pdf, render_for_fax
from media.fax.mail import title
from media.fax.spool import Folder, SpoolError

_MEMORY = 2 << 30
# Documents wait for calls.
_NICE = 5


def run_document(control: socket.socket, order: Mapping[str, str]) -> None:
    """Do `order` and answer on `control` with `{"pages": n}` or `{"error": text}`.

    {"make": "pdf", "folder": path, "password": optional}   the folder's pages become its fax.pdf
    {"make": "tiff", "source": path, "target": path, "resolution": name}
    """
    os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        if order["make"] == "pdf":
            pages = pdf_of(Folder(Path(order["folder"])), order.get("password"))
        else:
            pages = render_for_fax(Path(order["source"]), Path(order["target"]), order.get("resolution", "fine"))
        answer: dict[str, object] = {"pages": pages}
    except (DocumentError, SpoolError, OSError) as error:
        answer = {"error": str(error)}
    control.sendall(json.dumps(answer).encode())


def pdf_of(folder: Folder, password: str | None) -> int:
    """Make a folder's fax.pdf; its pages. With a password the plain pages are deleted once the PDF is on the disk."""
    meta = folder.meta()
    pages = list(folder.pages())
    created = datetime.fromtimestamp(meta.started_at, UTC).astimezone(ZoneInfo(meta.time_zone))
    folder.store_pdf(make_pdf(pages, About(title(meta), created, meta.language), password))
    if password is not None:
        folder.forget_pages()
    return len(pages)
