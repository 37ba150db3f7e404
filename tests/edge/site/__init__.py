"""A site for the browser tests of the tags: one page under a strict Content Security Policy."""
