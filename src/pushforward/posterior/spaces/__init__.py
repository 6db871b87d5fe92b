"""What do the draws of a model look like, and how do they come from unconstrained numbers?"""
