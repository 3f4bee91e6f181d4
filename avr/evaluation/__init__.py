"""How good answers are: paired comparisons with confidence intervals."""
