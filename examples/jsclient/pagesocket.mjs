import { randomBytes } from "node:crypto";
import { request } from "node:http";

const [TEXT, BINARY, CLOSE, PING, PONG] = [1, 2, 8, 9, 10];

/**
 * PageSocket is a WebSocket that closes with 1001, like that of a page that is unloaded. The
 * WebSocket of Node does not allow this code.
 */
export class PageSocket {
  protocol = "";
  bufferedAmount = 0;
  #opening;
  #socket;
  #end = { code: 1006, reason: "" };
  #input = Buffer.alloc(0);

  constructor(url, protocols) {
    const opening = this.#opening = request(url.replace(/^ws/, "http"), {
      headers: {
        Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": 13,
        "Sec-WebSocket-Key": randomBytes(16).toString("base64"), "Sec-WebSocket-Protocol": protocols,
      },
    });
    opening.on("upgrade", ({ headers }, socket, head) => {
      this.#socket = socket;
      this.protocol = headers["sec-websocket-protocol"];
      this.onopen?.({});
      socket.on("data", (data) => this.#receive(data));
      socket.on("close", () => this.onclose?.(this.#end));
      socket.on("error", () => {});
      this.#receive(head);
    });
    opening.on("response", () => this.onerror?.({}));
    opening.on("error", () => this.onerror?.({}));
    opening.end();
  }

  send(data) {
    this.#write(typeof data === "string" ? TEXT : BINARY, Buffer.from(data));
  }

  close() {
    this.#write(CLOSE, Buffer.from([1001 >> 8, 1001 & 0xff]));
    this.#socket?.end();
    if (!this.#socket) this.#opening.destroy();
  }

  #write(op, payload) {
    const size = Buffer.alloc(3, 0x80 | 126); // always the long form, and a mask of zeros
    size.writeUInt16BE(payload.length, 1);
    this.#socket?.write(Buffer.concat([Buffer.from([0x80 | op]), size, Buffer.alloc(4), payload]));
  }

  #receive(data) {
    this.#input = Buffer.concat([this.#input, data]);
    for (;;) {
      const [first, short] = this.#input;
      const start = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (this.#input.length < start) return;
      const length = short < 126 ? short
        : short === 126 ? this.#input.readUInt16BE(2) : Number(this.#input.readBigUInt64BE(2));
      const end = start + length;
      if (this.#input.length < end) return;
      const payload = this.#input.subarray(start, end);
      this.#input = this.#input.subarray(end);
      const op = first & 0x0f;
      if (op === TEXT) this.onmessage?.({ data: payload.toString() });
      if (op === BINARY) this.onmessage?.({ data: Uint8Array.from(payload).buffer });
      if (op === CLOSE) {
        this.#end = { code: payload.readUInt16BE(), reason: payload.subarray(2).toString() };
        this.#socket.end();
      }
      if (op === PING) this.#write(PONG, payload);
    }
  }
}
