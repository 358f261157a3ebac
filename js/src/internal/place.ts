import type { Jump, Mark } from "./wire.js";

/**
 * Place is the client's position among kept messages: those of a room, or those of the user's
 * inbox.
 */
export interface Place {
  /** Moves to a kept message. Reports whether the message is to be shown. */
  comesTo(mark: Mark, prev: unknown): boolean;
  /**
   * Reports whether the message belongs to the requested history, so it is shown even if it is
   * known.
   */
  asked(mark: Mark): boolean;
  /**
   * Notes that a message was shown, now or before. Its work is done when all promises have settled.
   */
  took(mark: Mark, work: Promise<void>[]): void;
  jump(jump: Jump): void;
}

/** Reports whether a position is at or before another one. */
export function isOld(mark: Mark, at: Mark): boolean {
  return mark.epoch === at.epoch && mark.offset <= at.offset;
}

/** Reports whether no message is missing between a position and a message. */
export function follows(mark: Mark, prev: unknown, at: Mark): boolean {
  return mark.epoch === at.epoch && prev === at.offset;
}

/** Reports whether a jump changes the position. */
export function leadsOn({ to, from = Infinity, reason }: Jump, at: Mark): boolean {
  if (from !== Infinity && reason) return to.epoch === at.epoch && at.offset <= from;
  return reason === "ahead" || !isOld(to, at); // only "ahead" moves the position back
}

/** Returns the position before a message, if known. */
export function before({ epoch }: Mark, prev: unknown): Mark | undefined {
  return typeof prev === "number" ? { epoch, offset: prev } : undefined;
}
