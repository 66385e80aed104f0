"""A small HTTP server of one model: a JSON endpoint and a page to try it."""
