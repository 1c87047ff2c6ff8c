"""One module a figure, named as its files: EXPERIMENT, `table(records)`, `draw(records)`."""
