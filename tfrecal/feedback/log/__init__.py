"""How does a client record what it showed, without waiting for a store?"""
