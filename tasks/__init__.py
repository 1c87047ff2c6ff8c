"""Tasks: model, batches, loss, evaluation and target of each problem. They know no optimizer."""
