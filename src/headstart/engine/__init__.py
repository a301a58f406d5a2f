"""Running the frozen part, and keeping what it gave."""
