"""A model of settings sync: the real publisher and follower code over a simulated etcd, PostgreSQL and LMDB store."""

import logging

import structlog


def quiet() -> None:
    """Say nothing below "critical": what befalls here would be thousands of lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
