"""The run directory and ArviZ data: the one writer, and the way back."""
