"""Progress bars."""

from __future__ import annotations

PROGRESS_AFTER_SECONDS = 2.0
"""Work that is done sooner shows no progress bar."""
