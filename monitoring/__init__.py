"""The floor of the house: metrics, exporter, logs, rules and dashboards. Imports nothing of ours."""
