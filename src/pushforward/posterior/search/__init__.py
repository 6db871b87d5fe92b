"""Where is the posterior's mass, and which Gaussians approximate it there?"""
