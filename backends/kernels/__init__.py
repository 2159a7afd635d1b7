"""Compiled forms of single operations; what they mean stands in `base.py` and beside it."""
