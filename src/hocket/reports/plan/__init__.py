"""A plan for people: a page with pictures, and a table for the terminal."""
