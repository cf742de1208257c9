"""What limits Django's views: the decorator ``throttle``, whom it charges, and what a client sees."""
