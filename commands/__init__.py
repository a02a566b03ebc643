"""The commands that are studies, one a file; `cli` has the others and puts them together."""
