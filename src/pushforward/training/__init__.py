"""How is anything trained? An objective, batches, an optimizer, a stopping rule, a history and a checkpoint."""
