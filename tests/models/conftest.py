"""Tests of models look at many fits, and at what is simulated from them only where they say so."""

import pytest


@pytest.fixture(autouse=True)
def sparing(few: None) -> None:
    """Simulate few data sets from every fit."""
