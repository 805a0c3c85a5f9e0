"""Differential privacy: noise, accounting and, later, auditing."""
