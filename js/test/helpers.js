// A server, a network and a clock under the control of the tests.

import { connect } from "../dist/realtime.js";

const STEP = 250; // milliseconds after which pending work runs

let envs = 0;

/** TestEnv is the environment of the clients in one test. */
export class TestEnv {
  sockets = []; // all sockets that were opened
  statuses = []; // of all clients
  set = 0; // milliseconds by which the clock was set
  #timers;
  #now;
  #url = `wss://example.com/ws?env=${++envs}`; // clients with the same URL are shared

  constructor(t) {
    this.#timers = t.mock.timers;
    this.#timers.enable({ apis: ["setTimeout", "Date"], now: 1_767_225_600_000 });
    this.#now = Date.now;
    t.mock.method(Date, "now", () => this.#now() + this.set);
    t.mock.method(performance, "now", () => this.#now());
    this.random = t.mock.method(Math, "random", () => 0.5).mock;
    this.fetch = t.mock.method(globalThis, "fetch", async () => {
      throw new TypeError("fetch failed");
    }).mock;
    const { sockets } = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url, protocols) {
        super(url, protocols);
        sockets.push(this);
      }
    };
  }

  /** The last socket that was opened. */
  get socket() {
    return this.sockets.at(-1);
  }

  get status() {
    return this.statuses.at(-1);
  }

  connect(options = {}, url = this.#url) {
    const client = connect(url, { WebSocket: this.WebSocket, ...options });
    client.onStatus((status) => this.statuses.push(status));
    return client;
  }

  /** Returns an open client. content has additional members of the welcome. */
  async open(options, url, content) {
    const client = this.connect(options, url);
    await settled();
    this.socket.welcome(content);
    await settled();
    return client;
  }

  /** Sets the response to plain requests. */
  answerFetch(status, body = {}, headers = {}) {
    this.fetch.mockImplementation(async () => Response.json(body, { status, headers }));
  }

  /** Lets time pass, and runs timers and pending work. */
  async pass(ms) {
    for (let left = ms; left > 0; left -= STEP) {
      this.#timers.tick(Math.min(left, STEP));
      await settled();
    }
  }

  /** Lets time pass without running timers, like a suspended computer. */
  sleep(ms) {
    this.#timers.setTime(this.#now() + ms);
  }

  /** Lets the wait before the next attempt pass, and returns its length. */
  async nextAttempt() {
    const { retryIn } = this.status;
    await this.pass(retryIn + 1);
    return retryIn;
  }

  /** Ends the connection and opens the next one. content has additional members of the welcome. */
  async reopen(content, code = 1006) {
    this.socket.end(code);
    await this.nextAttempt();
    this.socket.welcome(content);
    await settled();
  }
}

/** FakeSocket is a WebSocket whose server is the test. */
class FakeSocket {
  protocol = "";
  sent = []; // all frames of the client
  closed; // the code with which the client closed it

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  send(data) {
    this.sent.push(data);
  }

  close(code) {
    this.closed ??= code;
  }

  open(protocol = "realtime.v1") {
    this.protocol = protocol;
    this.onopen?.({});
  }

  welcome(content) {
    this.open();
    this.receive(welcome(content));
  }

  receive(frame) {
    const raw = typeof frame === "string" || frame instanceof ArrayBuffer;
    this.onmessage?.({ data: raw ? frame : JSON.stringify(frame) });
  }

  end(code, reason = "") {
    this.onclose?.({ code, reason });
  }

  /** The requests of the client, without pings. */
  get requests() {
    return this.sent.filter((data) => data !== "ping").map(requestOf);
  }

  get pings() {
    return this.sent.filter((data) => data === "ping").length;
  }

  /** Answers the last request of this type. */
  reply(type, content) {
    this.receive({ message_type: "reply", id: this.last(type).id, content });
  }

  refuse(type, code, message = code) {
    this.receive({ message_type: "error", id: this.last(type).id, content: { code, message } });
  }

  last(type) {
    return this.requests.findLast((request) => request.type === type);
  }
}

function requestOf(data) {
  if (typeof data === "string") return JSON.parse(data);
  return JSON.parse(partsOf(data)[0]);
}

/** Returns the header and the content of a binary frame. The header has less than 16 KiB. */
export function partsOf(data) {
  const bytes = Buffer.from(data);
  const [low, high] = bytes;
  const [start, length] = low < 0x80 ? [1, low] : [2, (low & 0x7f) + high * 0x80];
  return [bytes.subarray(start, start + length), bytes.subarray(start + length)];
}

/** Returns a binary frame of the server, as a WebSocket delivers it. */
export function bytesFrame(header, content) {
  const text = Buffer.from(JSON.stringify(header)); // less than 128 bytes
  return Uint8Array.from([text.length, ...text, ...content]).buffer;
}

export function welcome(content = {}) {
  return {
    message_type: "welcome",
    sender_id: null,
    content: {
      connection_id: "conn_1", message: "Connected successfully", user_id: "alice",
      max_message_bytes: 65_536, reconnect_ms: 500, ...content,
    },
    timestamp: 1_767_225_600,
  };
}

export function message(type, content, more = {}) {
  return { message_type: type, sender_id: "bob", content, timestamp: 1_767_225_600, ...more };
}

/** Runs all pending promise callbacks. */
export function settled() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Returns the value or the error of a promise, or "pending". */
export async function outcome(promise) {
  let result = "pending";
  promise.then((value) => { result = value; }, (error) => { result = error; });
  await settled();
  return result;
}

/** Returns the code of the error with which a promise was rejected. */
export async function codeOf(promise) {
  return (await outcome(promise))?.code;
}

/** The frame that the server sends when the identity has expired. */
export const expired = {
  message_type: "error", id: null, content: { code: "expired", message: "identity expired" },
};
