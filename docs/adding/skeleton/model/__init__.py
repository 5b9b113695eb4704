"""FILL title: what the model is for, in one line that starts with its name and ends with a full stop."""

REFUSED: dict[str, str] = {}
