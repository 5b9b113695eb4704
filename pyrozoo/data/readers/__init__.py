"""Files, one module per family of formats."""
