"""Helpers for a course on secure, private and robust federated learning.

Import the room you need, for example ``from fltutor.crypto import aead`` or
``from fltutor import aggregation``. TensorFlow is imported when something trains,
and so is each other package that only a part of the course needs.

The notebooks' own runs, pictures and checks lie apart, in ``fltutor.lessons``.
"""

__version__ = "0.1.0"
