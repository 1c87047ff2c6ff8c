"""Data sets: fetching, verification against one committed list, reading."""
