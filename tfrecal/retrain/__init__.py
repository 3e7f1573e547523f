"""Feedback to a model that is served: train, judge, export, promote."""
