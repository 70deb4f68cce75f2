"""Pillow with all that is used of it imported, ahead of a limited process's limits."""

from typing import Final

from PIL import AvifImagePlugin, Image, PngImagePlugin

from hartonomous.media.picture_decoding import PIXELS_LIMIT

Image.init()  # every format's part, which would be imported with the first file
Image.MAX_IMAGE_PIXELS = PIXELS_LIMIT
PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20  # of color profiles too, which exceed 1 MiB
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the process may start none

READY: Final = True
"""The entry for the limited process."""
