"""Measure the quality of answers: paired comparisons with confidence intervals."""
