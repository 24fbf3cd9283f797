"""Processes, devices and memory: what a run is computed on."""
