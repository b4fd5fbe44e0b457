"""The drill: a running cluster under load, one fault after another, and a verdict that asks no counter of ours.

`python -m tests.drill --help`. The load's own log, the customer's mailbox and the API are compared mail by mail.
"""
