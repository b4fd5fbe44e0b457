"""The control plane: panel, API, quarantine, delivery, fleet."""
