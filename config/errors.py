"""Errors of configuration and provisioning: their text names the thing and the remedy, and is meant for people."""

from __future__ import annotations


class ConfigError(Exception):
    """Something that a person has to mend; its text can be shown as it is and holds no secret."""
