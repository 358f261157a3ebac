// The wire protocol, see docs/PROTOCOL.md.

import type { History, Message } from "../api.js";
import { RealtimeError } from "../errors.js";

/** The WebSocket subprotocol. */
export const PROTOCOL = "realtime.v1";

/** The complete text of a ping. */
export const PING = "ping";

/** A frame from the server. */
export type Frame =
  | { kind: "message"; message: Message; prev: unknown }
  | StateFrame
  | { kind: "reply"; id: unknown; content: unknown }
  | { kind: "error"; id: unknown; room: string | undefined; error: RealtimeError }
  | { kind: "call"; id: unknown; method: string; content: unknown }
  | { kind: "joined"; room: string | undefined; content: unknown }
  | { kind: "left"; room: string | undefined }
  | { kind: "large"; bytes: number } // the size of the next frame
  | PositionUpdate;

/** A frame of which the client counts the arrivals. */
export type StateFrame = { isState: true } & (
  | { kind: "value"; message: Message }
  | { kind: "presence" | "latest"; room: string | undefined; raw: Raw }
);

/** The members of a frame as they arrived. */
export type Raw = Record<string, unknown>;

/** A known position. */
export interface KnownPosition {
  readonly epoch: string;
  readonly offset: number;
}

/**
 * A change of the position without a message, because the messages in between are lost or not for
 * this client.
 */
export interface PositionUpdate {
  readonly kind: "position";
  readonly room: string | undefined;
  readonly to: KnownPosition;
  /** A client after this offset ignores the update; undefined: it applies to every client. */
  readonly from: number | undefined;
  /** Why messages are lost; undefined: they are not. */
  readonly reason: string | undefined;
}

/** The data of a WebSocket message: text or bytes. */
export type Data = string | Uint8Array<ArrayBuffer>;

const MAX_COUNT = 1_000; // messages that a server returns at most

const utf8 = new TextEncoder();

/** Decodes a received frame. Returns undefined for a pong and for an invalid frame. */
export function decode(data: unknown): Frame | undefined {
  if (typeof data === "string") return toFrame(parse(data));
  const bytes = asBytes(data);
  return bytes && decodeBinary(bytes);
}

/** Encodes a request. If the content is bytes, the rest of the request becomes their header. */
export function encode(request: Record<string, unknown>): Data {
  const bytes = asBytes(request.content);
  if (!bytes) return JSON.stringify(request);
  const header = utf8.encode(JSON.stringify({ ...request, content: undefined }));
  const length = uvarint(header.length);
  const data = new Uint8Array(length.length + header.length + bytes.length);
  data.set(length);
  data.set(header, length.length);
  data.set(bytes, length.length + header.length);
  return data;
}

/** Converts a time to live for a request, because JSON has no infinite numbers. */
export function toMilliseconds(ttl: number | undefined): number | undefined {
  return ttl === undefined ? undefined : Math.min(Math.ceil(ttl), Number.MAX_SAFE_INTEGER);
}

/** Limits the number of messages to ask for. */
export function toCount(messages: number | undefined): number | undefined {
  return messages && Math.min(messages, MAX_COUNT);
}

/** Returns the size on the wire in bytes. */
export function sizeOf(data: Data | ArrayBuffer): number {
  return typeof data === "string" ? utf8.encode(data).length : data.byteLength;
}

function decodeBinary(bytes: Uint8Array): Frame | undefined {
  const { value, end: start } = readUvarint(bytes);
  const end = start + value;
  if (end > bytes.length) return undefined;
  const header = new TextDecoder().decode(bytes.subarray(start, end));
  return toFrame({ ...parse(header), content: bytes.slice(end) });
}

function toFrame(raw: Raw): Frame | undefined {
  const { message_type: type, id, content, method } = raw;
  if (typeof type !== "string") return undefined;
  const room = asString(raw.room);
  if (typeof raw.latest === "string") {
    return { kind: "value", isState: true, message: toMessage(type, raw) };
  }
  const bytes = asNumber(raw.bytes);
  if (type === "large" && bytes !== undefined) return { kind: "large", bytes };
  switch (type) {
    case "reply":
      return { kind: type, id, content };
    case "error":
      return { kind: type, id, room: asString(Object(content).room), error: toError(content) };
    case "call":
      return { kind: type, id, method: asString(method) ?? "", content };
    case "joined":
      return { kind: type, room, content };
    case "left":
      return { kind: type, room };
    case "presence":
    case "latest":
      return { kind: type, isState: true, room, raw };
    case "position":
      return toPositionUpdate(raw, raw.offset, raw.recovered === false);
    case "skipped":
      return toPositionUpdate(raw, raw.to, true);
  }
  return { kind: "message", message: toMessage(type, raw), prev: raw.prev };
}

function toPositionUpdate(
  raw: Raw, offset: unknown, lost: boolean,
): Frame | undefined {
  const to = toPosition({ epoch: raw.epoch, offset });
  if (!to) return undefined;
  const reason = lost ? asString(raw.reason) ?? "unknown" : undefined;
  return { kind: "position", room: asString(raw.room), to, from: asNumber(raw.from), reason };
}

/** Returns the position of an object, if it has one. */
export function toPosition(raw: unknown): KnownPosition | undefined {
  const { epoch, offset } = Object(raw);
  return typeof epoch === "string" && typeof offset === "number" ? { epoch, offset } : undefined;
}

/** Decodes the answer to a request for history. */
export function toHistory(content: unknown): History {
  const { epoch, top, more, messages } = Object(content);
  const frames = toArray(messages).map((raw) => toFrame(withBytes(raw)));
  return {
    messages: frames.flatMap((frame) => frame?.kind === "message" ? [frame.message] : []),
    more: more === true,
    top: { epoch: asString(epoch), offset: asNumber(top) },
  };
}

/** Decodes the binary content of an envelope. */
function withBytes(raw: unknown): Raw {
  const envelope = Object(raw);
  if (envelope.encoding !== "base64") return envelope;
  try {
    const content = Uint8Array.from(atob(envelope.content), (char) => char.charCodeAt(0));
    return { ...envelope, content };
  } catch {
    return envelope;
  }
}

function toMessage(type: string, raw: Raw): Message {
  return {
    type,
    content: raw.content,
    sender: asString(raw.sender_id) ?? null,
    time: new Date(Math.round((asNumber(raw.timestamp) ?? 0) * 1_000)),
    guest: asString(raw.guest),
    connection: asString(raw.conn),
    id: asString(raw.id),
    room: asString(raw.room),
    latest: asString(raw.latest),
    offset: asNumber(raw.offset),
    epoch: asString(raw.epoch),
  };
}

function toError(content: unknown): RealtimeError {
  const { code, message, message_type: type, retry_ms, data } = Object(content);
  const text = asString(type) === undefined ? message : `${type}: ${message}`;
  const more = { retryAfter: asNumber(retry_ms), data };
  return new RealtimeError(asString(code) ?? "internal", asString(text), more);
}

/** Parses the members of an object. Returns none if the text is invalid. */
function parse(text: string): Raw {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}

export function asString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

export function asNumber(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}

export function toArray(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function asBytes(value: unknown): Uint8Array | undefined {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (!ArrayBuffer.isView(value)) return undefined;
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

function uvarint(value: number): number[] {
  const bytes = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return [...bytes, value];
}

/** Reads a number of at most 35 bits. The value is Infinity if there is none. */
function readUvarint(bytes: Uint8Array): { value: number; end: number } {
  let value = 0;
  for (const [i, byte] of bytes.subarray(0, 5).entries()) {
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte <= 0x7f) return { value, end: i + 1 };
  }
  return { value: Infinity, end: 0 };
}
