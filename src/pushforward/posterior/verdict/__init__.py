"""Can a fit be trusted: what do its weights show, and what would they not show?"""
