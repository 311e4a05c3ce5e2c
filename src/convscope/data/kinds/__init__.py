"""What examples may be, one kind a file."""
