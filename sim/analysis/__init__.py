"""Analysis: what the numbers of one or many runs say, and how sure that is."""
