"""What a backbone goes on learning by without labels; one loss a file."""
