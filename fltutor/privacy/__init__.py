"""Differential privacy: noise, accounting, budgets, and auditing."""
