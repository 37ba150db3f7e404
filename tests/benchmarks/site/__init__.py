"""The site that is measured: one topic of ours, one stock consumer, the same settings."""
