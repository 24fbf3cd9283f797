"""Blocks that no stage trains: run once on each example, their outputs kept on disk."""
