"""Define the training methods, one file each."""
