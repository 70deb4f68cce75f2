"""Lossless encodings of frames."""
