"""The spool in a deterministic simulation: the real code on simulated clocks, networks, disks and processes."""
