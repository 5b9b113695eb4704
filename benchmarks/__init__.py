"""Speed against what people would otherwise run. ``python -m benchmarks`` measures all and writes one table."""
