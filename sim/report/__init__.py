"""Reports: what a summary says to people and to other programs, as text; and one task's timeline."""
