# The package websockets of Python.
import asyncio
import json
import sys

import websockets


async def main():
    async with websockets.connect(sys.argv[1]) as ws:
        async for text in ws:
            print(text)
            if text == "pong":
                await ws.send(json.dumps({"content": "hi", "target": "all"}))
                continue
            message_type = json.loads(text)["message_type"]
            if message_type == "welcome":
                await ws.send("ping")
            if message_type == "chat":
                await ws.close(1000)
        print(ws.close_code)


asyncio.run(main())
