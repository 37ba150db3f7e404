"""A plain Channels consumer: it knows nothing of topics and works beside them."""

from channels.generic.websocket import AsyncWebsocketConsumer

MAX_BYTES = 1024 * 1024
HANG_UP = "/hang-up"


class EchoConsumer(AsyncWebsocketConsumer):
    """Sends back what it gets, text as text and bytes as bytes; `/hang-up` makes it close."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == HANG_UP:
            await self.close(code=4012)
        elif len(text_data or bytes_data or "") > MAX_BYTES:
            await self.close(code=4009)
        else:
            await self.send(text_data=text_data, bytes_data=bytes_data)
