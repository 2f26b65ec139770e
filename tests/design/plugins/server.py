"""64 requests in flight to a slow local server."""

import asyncio
import json

from pydantic import Field

import mmsynth as mm


class AsksServer(mm.Captioner):
    """Ask an HTTP server what to say of each sample."""

    port: int
    concurrency: int = Field(64, ge=1)

    async def process_one(self, sample: mm.Sample) -> mm.Result:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"GET /{sample.key} HTTP/1.0\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        if b" 200 " not in head.split(b"\r\n")[0]:
            return mm.Failed("refused", body.decode())
        return sample.with_caption(json.loads(body)["text"])
