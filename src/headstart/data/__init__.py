"""What the user has: reading, auditing, splitting and batching it."""
