"""A process that receives a long fax as fast as it can and says each confirmation that the sender got; to be killed.

python -m tests.unit.media.fax.fast_fax FOLDER DOCUMENT audio|t38      writes one octet per confirmed page
"""

import os
import sys
from pathlib import Path

from media.fax.events import FaxEvent, PageStored
from tests.unit.media.fax.rig import Call


class Saying(Call):
    """A call that says what is confirmed, at once."""

    def _on_sent(self, event: FaxEvent) -> None:
        super()._on_sent(event)
        if isinstance(event, PageStored):
            os.write(1, b"+")


def main() -> None:
    """The entry point."""
    folder, document, transport = sys.argv[1:]
    getattr(Saying(Path(folder), Path(document)), transport)()


if __name__ == "__main__":
    main()
