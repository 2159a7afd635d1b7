"""Compiled forms of single operations; what they mean stands in `backends/base.py`."""
