"""How does each kind of checkpoint cut texts into tokens?"""
