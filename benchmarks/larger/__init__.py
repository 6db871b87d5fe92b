"""Posteriors of 10 to 1,600 parameters."""
