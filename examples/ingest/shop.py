"""A program with a fault, watched by the official client: what the demo and you send events with.

python shop.py DSN              it raises an exception
python shop.py DSN --many 20    it sends so much that the tracker slows it down
"""

import argparse

import sentry_sdk

parser = argparse.ArgumentParser(description="A program with a fault, watched by sentry-sdk.")
parser.add_argument("dsn")
parser.add_argument("--many", type=int, default=0, help="send so many messages, one at a time, and raise nothing")
arguments = parser.parse_args()
sentry_sdk.init(arguments.dsn, release="shop@1.4.2", environment="demo")


def average(prices):
    return sum(prices) / len(prices)


def checkout(cart):
    customer = "Ada"
    return f"{customer} pays {average(cart)} for each"


for number in range(arguments.many):
    sentry_sdk.capture_message(f"message {number}")
    # The client learns from each answer. Its next report says what it has held back.
    sentry_sdk.flush(10)
if not arguments.many:
    checkout([])
