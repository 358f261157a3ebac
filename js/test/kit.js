// What the tests have in common: a server, a network and a clock that do as they are told.

import { connect } from "../dist/realtime.js";

const STEP = 250; // milliseconds between looks at what has happened meanwhile

let worlds = 0;

/** World is everything around a client in one test. */
export class World {
  sockets = []; // all that were opened
  statuses = []; // of all clients
  set = 0; // milliseconds by which the time of day has been set
  #timers;
  #now;
  #url = `wss://example.com/ws?world=${++worlds}`; // clients of the same URL are one

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

  /** The socket that was opened last. */
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

  /** A client that has been welcomed, with this in the welcome. */
  async open(options, url, content) {
    const client = this.connect(options, url);
    await settled();
    this.socket.welcome(content);
    await settled();
    return client;
  }

  /** Lets a plain request be answered. */
  answerFetch(status, body = {}, headers = {}) {
    this.fetch.mockImplementation(async () => Response.json(body, { status, headers }));
  }

  /** Lets time pass, with everything that happens in it. */
  async pass(ms) {
    for (let left = ms; left > 0; left -= STEP) {
      this.#timers.tick(Math.min(left, STEP));
      await settled();
    }
  }

  /** Lets time pass in which no timer runs. */
  sleep(ms) {
    this.#timers.setTime(this.#now() + ms);
  }

  /** Lets the wait for the next attempt pass, and says how long it was. */
  async nextAttempt() {
    const { retryIn } = this.status;
    await this.pass(retryIn + 1);
    return retryIn;
  }

  /** Ends the connection, and opens the next one, with this in the welcome. */
  async comeBack(content, code = 1006) {
    this.socket.end(code);
    await this.nextAttempt();
    this.socket.welcome(content);
    await settled();
  }
}

/** FakeSocket is a WebSocket of which the test is the server. */
class FakeSocket {
  protocol = "";
  sent = []; // all frames
  closed; // the code that it was closed with

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

  /** The requests that came, without pings. */
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

/** The header and the content of a binary frame, which is long enough for tests. */
export function partsOf(data) {
  const bytes = Buffer.from(data);
  const [low, high] = bytes;
  const [start, length] = low < 0x80 ? [1, low] : [2, (low & 0x7f) + high * 0x80];
  return [bytes.subarray(start, start + length), bytes.subarray(start + length)];
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

export function notice(what, user, room) {
  return message("systemnotification", { type: what, user_id: user, room_id: room }, { room });
}

/** Lets everything happen that waits for nothing but its turn. */
export function settled() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** What became of a promise: its value, its error, or "pending". */
export async function outcome(promise) {
  let result = "pending";
  promise.then((value) => { result = value; }, (error) => { result = error; });
  await settled();
  return result;
}

/** The code of the error that a promise was broken with. */
export async function codeOf(promise) {
  return (await outcome(promise))?.code;
}

/** What the server says when the token is no longer good. */
export const expired = {
  message_type: "error", id: null, content: { code: "expired", message: "identity expired" },
};
