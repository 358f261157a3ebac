import { RealtimeError } from "../errors.js";
import { Arrivals } from "./arrivals.js";
import { LOST, NORMAL, PROTOCOL_ERROR } from "./closecode.js";
import type { Credentials } from "./source.js";
import { Watchdog } from "./watchdog.js";
import {
  asNumber, asString, decode, PING, PROTOCOL, sizeOf, toPosition, type Data, type Frame,
  type KnownPosition,
} from "./wire.js";

const WELCOME_TIMEOUT = 10_000; // milliseconds until the welcome

/** Welcome is the content of the server's first frame. */
export interface Welcome {
  readonly connectionId: string | null;
  readonly userId: string | null;
  /** The size of the largest message that the server accepts. */
  readonly maxMessageBytes: number;
  /** The milliseconds over which all clients should reconnect if they lose the server. */
  readonly reconnectMs: number;
  /** The acknowledged position of the inbox; undefined if there is none. */
  readonly inbox: KnownPosition | undefined;
  /**
   * The token with which the next connection may resume the session; undefined if there is none.
   */
  readonly session: string | undefined;
}

/** End describes how a link ended. */
export interface End {
  readonly code: number;
  readonly reason: string;
}

/**
 * LinkHandler is called with the events of a link. None comes before the welcome or after the end.
 */
export interface LinkHandler {
  welcome(welcome: Welcome): void;
  frame(frame: Frame): void;
  end(end: End): void;
}

/** A class with the interface of the browsers' WebSocket. */
export type Socket = new (url: string, protocols: string[]) => WebSocket;

/** Link is one WebSocket connection, from its opening to its end. */
export class Link {
  readonly #socket: WebSocket;
  readonly #handler: LinkHandler;
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #arrivals = new Arrivals((frames) => {
    this.write(JSON.stringify({ type: "seen", frames }));
  });
  #watchdog: Watchdog | undefined; // undefined before the welcome

  /** @throws RealtimeError `bad_url` */
  constructor(Socket: Socket, { url, token }: Credentials, handler: LinkHandler) {
    this.#handler = handler;
    this.#socket = open(Socket, url, token ? [PROTOCOL, `bearer.${token}`] : [PROTOCOL]);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#opened();
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#socket.onerror = () => this.#end(LOST); // some implementations send no close event then
    this.#timer = setTimeout(() => {
      this.#end(LOST, "the server did not send its welcome in time");
    }, WELCOME_TIMEOUT);
  }

  /** The number of bytes that were written and not sent yet. */
  get buffered(): number {
    return this.#socket.bufferedAmount;
  }

  write(data: Data): void {
    this.#socket.send(data);
  }

  /** Sends a ping, and ends the link soon if nothing arrives. */
  probe(): void {
    this.#watchdog?.probe();
  }

  /**
   * Closes the socket without waiting for it, which could take minutes if the connection is dead.
   */
  close(): void {
    clearTimeout(this.#timer);
    this.#watchdog?.stop();
    this.#arrivals.stop();
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = ignore; // some implementations throw without a handler
    socket.close(NORMAL);
  }

  #opened(): void {
    this.#socket.onerror = ignore; // a close event follows with more information
    if (this.#socket.protocol === PROTOCOL) return;
    this.#end(PROTOCOL_ERROR, `the server does not speak ${PROTOCOL}`);
  }

  #receive(data: unknown): void {
    this.#watchdog?.noteAlive();
    const frame = decode(data);
    if (frame?.kind === "large") return this.#watchdog?.noteAlive(frame.bytes);
    if (!frame) return;
    if (!this.#watchdog && !this.#welcome(frame)) return;
    if ("isState" in frame) this.#arrivals.note(sizeOf(data as Data | ArrayBuffer));
    this.#handler.frame(frame);
  }

  /** Handles the welcome. Reports whether this frame is one. */
  #welcome(frame: Frame): boolean {
    if (frame.kind !== "message" || frame.message.type !== "welcome") return false;
    clearTimeout(this.#timer);
    this.#watchdog = new Watchdog(() => this.buffered, () => this.write(PING), () => {
      this.#end(LOST, "no sign of life from the server");
    });
    this.#handler.welcome(toWelcome(frame.message.content));
    return true;
  }

  #end(code: number, reason = ""): void {
    this.close();
    const fallback = code === LOST ? "the connection was lost" : ""; // used if there is no reason
    this.#handler.end({ code, reason: reason || fallback });
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
    inbox: toPosition(inbox),
    session: asString(session),
  };
}
