"""One data set, or one published layout of data sets, a file."""
