"""Names become objects, once; a fit is made."""
