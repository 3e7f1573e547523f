"""How is a training step taken: accumulated, replicated, adversarial?"""
