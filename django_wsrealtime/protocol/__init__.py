"""The wire protocol ``wsrealtime.v1.json``, pure: no Django, no asyncio, no clock, no I/O."""

SUBPROTOCOL = "wsrealtime.v1.json"
VERSION = 1
