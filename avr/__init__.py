"""AvR on Ray: alignment via refinement as a distributed application."""
