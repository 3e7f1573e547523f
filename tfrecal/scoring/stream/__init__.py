"""Which pairs of a pool too large to list are best?"""
