"""Fuzzing of everything that reads bytes of others: parsers, packs, plans, codecs."""
