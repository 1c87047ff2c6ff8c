"""Commands beside run.py: data preparation, benchmarks, publishing."""
