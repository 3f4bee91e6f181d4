"""Ray Data dataflow, run directory and ledger, resource plan: the jobs in steps."""
