"""The universality theorem as code: which exact maps turn a distribution into a uniform or another distribution?"""
