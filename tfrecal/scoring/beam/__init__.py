"""How are all users, or all pairs, scored on many machines? Apache Beam."""
