"""Reading lines of text: a picture of a line in, its characters out."""
