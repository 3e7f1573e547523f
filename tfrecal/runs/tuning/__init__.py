"""Which settings are best for a data set?"""
