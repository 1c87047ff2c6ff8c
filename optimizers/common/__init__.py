"""What several optimizers use: the model as one vector, norms, momentum, closures, windows."""
