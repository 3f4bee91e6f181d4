"""Work out how much GPU memory engines and training ranks need, before anything is started."""
