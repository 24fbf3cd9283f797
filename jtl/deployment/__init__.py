"""What was trained, in use: predictions, features, exported programs."""
