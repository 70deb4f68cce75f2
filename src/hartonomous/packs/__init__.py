"""Atoms and files in packs: put and get."""
