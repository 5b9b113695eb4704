"""What a person reads: the run directory, the pages, the pictures."""
