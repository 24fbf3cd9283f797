"""What is written to a folder: files as a whole, a log, a manifest, a run's claim, reports."""
