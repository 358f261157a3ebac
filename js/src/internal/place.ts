import type { Jump, Mark } from "./wire.js";

/** Place is where we are in what the server keeps: of a room, or for us in our inbox. */
export interface Place {
  /** Comes to a message that is kept, and reports whether it is to be shown. */
  comesTo(mark: Mark, prev: unknown): boolean;
  /** Whether a message is of the past that was asked for, so that it is shown anew. */
  asked(mark: Mark): boolean;
  /** It has been shown, or had been before; the work for it ends with the last of these. */
  took(mark: Mark, work: Promise<void>[]): void;
  jump(jump: Jump): void;
}

/** Whether a mark is not behind another one. */
export function isOld(mark: Mark, at: Mark): boolean {
  return mark.epoch === at.epoch && mark.offset <= at.offset;
}

/** Whether nothing is missing between a place and a message. */
export function follows(mark: Mark, prev: unknown, at: Mark): boolean {
  return mark.epoch === at.epoch && prev === at.offset;
}

/** Whether a jump leads away from a place. */
export function leadsOn({ to, from = Infinity, reason }: Jump, at: Mark): boolean {
  if (from !== Infinity && reason) return to.epoch === at.epoch && at.offset <= from;
  return reason === "ahead" || !isOld(to, at); // back only to what there is
}

/** The mark of the message before one, if that is known. */
export function before({ epoch }: Mark, prev: unknown): Mark | undefined {
  return typeof prev === "number" ? { epoch, offset: prev } : undefined;
}
