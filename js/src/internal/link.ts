import { RealtimeError } from "../errors.js";
import { LOST, NORMAL, PROTOCOL_ERROR } from "./closecode.js";
import type { Credentials } from "./source.js";
import { Watchdog } from "./watchdog.js";
import {
  asNumber, asString, decode, PING, PROTOCOL, toMark, type Data, type Frame, type Mark,
} from "./wire.js";

const CONNECT_PATIENCE = 10_000; // milliseconds, until the server has said welcome

/** What the server says first. */
export interface Welcome {
  readonly connectionId: string | null;
  readonly userId: string | null;
  /** The largest message that it takes. */
  readonly maxMessageBytes: number;
  /** Over how many milliseconds all clients should come back if they lose it. */
  readonly reconnectMs: number;
  /** How far our inbox has been acknowledged; undefined: there is none. */
  readonly inbox: Mark | undefined;
  /** By which the next connection is known to be the same user agent; undefined: by nothing. */
  readonly session: string | undefined;
}

/** How a link ended. */
export interface End {
  readonly code: number;
  readonly reason: string;
}

/** Who is told what happens to a link. Nothing comes before the welcome or after the end. */
export interface LinkHandler {
  welcome(welcome: Welcome): void;
  frame(frame: Frame): void;
  end(end: End): void;
}

/** A class like the WebSocket of browsers. */
export type Socket = new (url: string, protocols: string[]) => WebSocket;

/** Link is one WebSocket, from its opening to its end. */
export class Link {
  readonly #socket: WebSocket;
  readonly #handler: LinkHandler;
  readonly #timer: ReturnType<typeof setTimeout>;
  #watchdog: Watchdog | undefined; // from the welcome on

  /** @throws RealtimeError `bad_url` */
  constructor(Socket: Socket, { url, token }: Credentials, handler: LinkHandler) {
    this.#handler = handler;
    this.#socket = open(Socket, url, token ? [PROTOCOL, `bearer.${token}`] : [PROTOCOL]);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#opened();
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#socket.onerror = () => this.#end(LOST); // some have no close event then
    this.#timer = setTimeout(() => {
      this.#end(LOST, "the server did not say welcome in time");
    }, CONNECT_PATIENCE);
  }

  /** Bytes that were written and have not left yet. */
  get buffered(): number {
    return this.#socket.bufferedAmount;
  }

  write(data: Data): void {
    this.#socket.send(data);
  }

  /** Finds out soon whether it is still alive. */
  probe(): void {
    this.#watchdog?.probe();
  }

  /** Lets go of the socket, and does not wait for it: a dead one would take minutes. */
  close(): void {
    clearTimeout(this.#timer);
    this.#watchdog?.stop();
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = ignore; // some throw if nobody listens
    socket.close(NORMAL);
  }

  #opened(): void {
    this.#socket.onerror = ignore; // a close follows, and says more
    if (this.#socket.protocol === PROTOCOL) return;
    this.#end(PROTOCOL_ERROR, `the server does not speak ${PROTOCOL}`);
  }

  #receive(data: unknown): void {
    this.#watchdog?.heard();
    const frame = decode(data);
    if (frame?.kind === "large") return this.#watchdog?.heard(frame.bytes);
    if (!frame) return;
    if (!this.#watchdog && !this.#welcome(frame)) return;
    this.#handler.frame(frame);
  }

  /** Reports whether this frame is the welcome. */
  #welcome(frame: Frame): boolean {
    if (frame.kind !== "message" || frame.message.type !== "welcome") return false;
    clearTimeout(this.#timer);
    this.#watchdog = new Watchdog(() => this.buffered, () => this.write(PING), () => {
      this.#end(LOST, "the server has fallen silent");
    });
    this.#handler.welcome(toWelcome(frame.message.content));
    return true;
  }

  #end(code: number, reason = ""): void {
    this.close();
    const said = code === LOST ? "the connection was lost" : ""; // if nothing is
    this.#handler.end({ code, reason: reason || said });
  }
}

function ignore(): void {}

function open(Socket: Socket, url: URL, protocols: string[]): WebSocket {
  try {
    return new Socket(url.href, protocols);
  } catch (cause) {
    const message = `cannot open ${url.protocol}//${url.host}: ${cause}`;
    throw new RealtimeError("bad_url", message, { cause });
  }
}

function toWelcome(content: unknown): Welcome {
  const {
    connection_id, user_id, max_message_bytes, reconnect_ms, inbox, session,
  } = Object(content);
  return {
    connectionId: asString(connection_id) ?? null,
    userId: asString(user_id) ?? null,
    maxMessageBytes: asNumber(max_message_bytes) ?? Infinity,
    reconnectMs: asNumber(reconnect_ms) ?? 0,
    inbox: toMark(inbox),
    session: asString(session),
  };
}
