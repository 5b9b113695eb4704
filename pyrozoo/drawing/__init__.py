"""The drawing kit: what pictures and tables of several models share."""
