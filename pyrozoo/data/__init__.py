"""Containers of data, and everything that fills them."""
