"""Who is a member of which route's service, and whether it works."""
