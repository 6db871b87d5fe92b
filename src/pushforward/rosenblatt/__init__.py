"""The universality theorem as code: which exact maps straighten a distribution, and carry one to another?"""
