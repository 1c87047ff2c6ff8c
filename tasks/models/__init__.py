"""Models that tasks build."""
