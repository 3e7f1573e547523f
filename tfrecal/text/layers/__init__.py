"""What are the layers of a transformer made of?"""
