"""Data: named sets of examples, how they are split, and which of them make up a batch."""
