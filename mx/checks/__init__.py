"""Reusable checks that gather facts and decide nothing."""
