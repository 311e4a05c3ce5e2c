"""Data sets by how their files lie, one layout a file; ``load_dataset(path)`` recognises them."""
