"""The benchmark family: what a team keeps around two models, pinned in ``family.toml``.

``definition`` reads the pins, ``build`` makes what is missing, every other module holds recipes.
Importing the package loads nothing but the standard library; torch, onnx and transformers are
imported inside the recipes that need them, in the environment of ``requirements-family.txt``.
"""
