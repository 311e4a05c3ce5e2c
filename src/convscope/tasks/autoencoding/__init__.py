"""Autoencoding: pictures coded by few active units, and made again from the code."""
