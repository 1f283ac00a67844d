"""Clients of the service for applications, blocking and awaited."""
