"""Many runs with one purpose: compare, recover, calibrate."""
