"""Classification: which of several classes a picture shows."""
