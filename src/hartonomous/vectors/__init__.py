"""Indexes of vectors that are files: exact, compressed scan, graph."""
