"""How does feedback become a new served version? Train, judge, promote."""
