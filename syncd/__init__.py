"""What nodes and control plane agree on, and how it travels: settings, spool records, next hops."""
