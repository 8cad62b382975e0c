"""What keeps a run from being made at all."""

from __future__ import annotations


class ChaosError(Exception):
    """The run cannot begin or go on, which says nothing about the promises. The text is one line:
    what is wrong, and what to do."""
