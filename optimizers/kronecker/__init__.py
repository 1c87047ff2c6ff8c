"""What optimizers with one small matrix a mode share (Shampoo, KrADagrad, KrADagrad*).

`base` holds the step, `inverse_factors` what both KrADagrads add to it; `buckets` stacks blocks of
equal shape, `roots` computes roots when they are due, `spectra` reports, `grafting` rescales.
"""
