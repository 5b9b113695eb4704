"""What a fit is worth: ArviZ conversion, metrics, verdicts, comparison, calibration."""
