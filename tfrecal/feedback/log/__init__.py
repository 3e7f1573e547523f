"""How does a client record what it showed, on the side?"""
