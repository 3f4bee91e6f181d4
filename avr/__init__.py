"""Run alignment via refinement (AvR) as a distributed application on Ray."""
