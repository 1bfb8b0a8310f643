"""Starts the real things: the server, Apache Kafka, an external schema registry. Nothing here computes a feature."""
