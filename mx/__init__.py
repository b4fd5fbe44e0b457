"""The MX node: the SMTP session, the filters, the relay."""
