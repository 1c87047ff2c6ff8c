"""Measurements that claims are judged by: exact mathematics, counts and timings.

Each module has functions without arguments that return a list of flat rows, and lists them at its
end by name: `EXACT = {"name": function}` for what is the same on every machine, `SLOW` for what is
so too and takes minutes, `TIMED` for seconds. `python -m scripts.measure` makes them.
"""
