"""Models of the example galleries of NumPyro and PyMC, written again, with data of our own."""
