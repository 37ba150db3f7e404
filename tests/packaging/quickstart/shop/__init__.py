"""A shop whose orders are followed live."""
