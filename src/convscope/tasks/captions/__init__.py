"""Captions: a picture in, what is to be seen in it out."""
