"""The step, how it is run, and what is seen of it: functions of arrays and models."""
