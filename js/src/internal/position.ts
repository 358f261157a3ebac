import type { KnownPosition, PositionUpdate } from "./wire.js";

/**
 * Subscription is the client's position in a stream of kept messages: that of a room, or that of
 * the user's inbox.
 */
export interface Subscription {
  /** Moves to a kept message. Reports whether its handlers must be called. */
  accept(position: KnownPosition, prev: unknown): boolean;
  /**
   * Reports whether the message belongs to the requested history, so its handlers are called even
   * if they were called before.
   */
  isRequested(position: KnownPosition): boolean;
  /**
   * Notes that the handlers of a message were called, now or before. They are done when all
   * promises of work have settled.
   */
  noteShown(position: KnownPosition, work: Promise<void>[]): void;
  /** Changes the position without a message. */
  updatePosition(update: PositionUpdate): void;
}

/**
 * Reports whether a client at a position has already received the message at another one: whether
 * the other position is the same or an older one.
 */
export function covers(at: KnownPosition, other: KnownPosition): boolean {
  return other.epoch === at.epoch && other.offset <= at.offset;
}

/** Reports whether no message is missing between a position and a message. */
export function follows(position: KnownPosition, prev: unknown, at: KnownPosition): boolean {
  return position.epoch === at.epoch && prev === at.offset;
}

/** Reports whether an update changes the position. */
export function applies(
  { to, from = Infinity, reason }: PositionUpdate, at: KnownPosition,
): boolean {
  if (from !== Infinity && reason) return to.epoch === at.epoch && at.offset <= from;
  return reason === "ahead" || !covers(at, to); // only "ahead" moves the position back
}

/** Returns the position before a message, if known. */
export function positionBefore(
  { epoch }: KnownPosition, prev: unknown,
): KnownPosition | undefined {
  return typeof prev === "number" ? { epoch, offset: prev } : undefined;
}
