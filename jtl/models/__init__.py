"""Backbones, heads and discriminators: pairs of pure functions on plain dictionaries."""
