"""Cryptographic primitives that know nothing of federated learning."""
