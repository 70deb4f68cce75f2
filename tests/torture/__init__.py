"""Disks that fail, fill up, lose power or flip bits, under the whole program."""
