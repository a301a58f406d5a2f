"""Ways to learn a table from another table: one file each."""
