"""Differential privacy: noise, accounting and, auditing."""
