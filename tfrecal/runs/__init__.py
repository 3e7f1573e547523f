"""How does a config become a run and its folder?"""
