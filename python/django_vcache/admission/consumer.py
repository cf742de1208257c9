"""What consumes a stream, for annotations: ``Stream.consumer()`` makes a :class:`Consumer`, which hands out each
:class:`Batch` of :class:`Entry`.
"""

from .consume.batch import Batch
from .consume.consumer import Consumer
from .consume.entry import Entry

__all__ = ["Batch", "Consumer", "Entry"]
