"""Which named data sets are there, and how is each made?"""
