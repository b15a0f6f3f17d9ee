"""What comes out of a database that is not there, or not as it should be: one list, for whoever asks it."""

from __future__ import annotations

import asyncpg

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""InternalClientError: what asyncpg says where the server closes the connection just as a statement is sent."""
