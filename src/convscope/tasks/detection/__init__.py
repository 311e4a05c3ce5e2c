"""Detection: what is in a picture, and the box around each of it."""
