"""What methods recover of a known truth."""
