"""Which computations do several strategies share?"""
