"""What is the structure of a model's draws, and which transform maps unconstrained vectors to them?"""
