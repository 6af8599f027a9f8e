"""Revisit Self-Debugging with Self-Generated Tests for Code Generation (arXiv 2501.12793)."""
