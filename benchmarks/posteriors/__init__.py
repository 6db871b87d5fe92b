"""Published posteriors with reference draws, as NumPyro models, and what fits them."""
