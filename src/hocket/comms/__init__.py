"""Processes and how they talk: communicators, the mesh, launching, supervision, heartbeats."""
