"""The scaler: how many collectors, processors and workers of balancers a datacenter runs, as their load wants it."""
