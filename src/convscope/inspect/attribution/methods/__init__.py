"""One method a file; each enrols itself."""
