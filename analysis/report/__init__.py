"""The report: figures, ledger, runs and statistics in one page that opens without a network."""
