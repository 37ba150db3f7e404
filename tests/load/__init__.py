"""Tests that move much data through real servers; bounded in count and in time."""
