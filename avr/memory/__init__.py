"""What engines and training ranks need of a GPU's memory, worked out before anything is started."""
