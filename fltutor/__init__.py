"""Helpers for a course on secure, private and robust federated learning.

Import the room you need, for example ``from fltutor.crypto import aead`` or
``from fltutor import aggregation``. Nothing here imports TensorFlow until a
module that trains models is imported.
"""

__version__ = "0.1.0"
