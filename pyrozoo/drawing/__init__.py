"""The drawing kit: what pictures of several models share."""
