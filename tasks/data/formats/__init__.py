"""Readers of the formats in which data sets are published; each checks what it reads."""
