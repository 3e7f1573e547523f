"""How do the layers of a transformer compute?"""
