"""What is shown of topics."""

from __future__ import annotations

from pyrozoo.contracts import view


class View(view.View):
    """Tables and pictures of topics."""

    rows_have_own = True
