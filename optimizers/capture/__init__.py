"""Per-sample gradients, recorded by hooks in the pass whose gradients count.

`record` holds the protocol and the hooks, `rules` what each kind of module needs, `call` one call
of a module, `samples` the gradients, `lstm` and `generic` the modules without a short form.
"""
