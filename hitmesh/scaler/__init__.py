"""The scaler: how many collectors and processors a datacenter runs, as their load wants it."""
