"""Services, processes and helpers that tests stand on."""
