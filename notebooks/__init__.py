"""Notebooks: each is a text file that is read and changed, and the .ipynb beside it with its outputs, made from it."""
