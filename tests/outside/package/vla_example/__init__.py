"""A package that adds one of everything to vla without an edit of it."""
