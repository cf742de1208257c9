"""What consumers of streams are made of. The public names are in ``admission.consumer`` and ``admission.streams``."""
