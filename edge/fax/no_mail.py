"""What faxes are mailed with where no mail server is set: nothing, but they are kept."""

from __future__ import annotations

from email.message import EmailMessage

from media.fax.outbox import MailDelayed


class NoMailServer:
    """See `media.fax.outbox.Transport`."""

    async def send(self, message: EmailMessage) -> None:
        """Raises MailDelayed."""
        raise MailDelayed("no mail server is set; set smtp_host in the settings, then `sip-edge fax resend`")
