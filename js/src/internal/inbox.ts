import type { Gap } from "../api.js";
import { applies, covers, follows, positionBefore, type Subscription } from "./position.js";
import type { Requests } from "./requests.js";
import type { KnownPosition, PositionUpdate } from "./wire.js";

/**
 * Inbox is the client's position in the user's inbox. It acknowledges the messages that the
 * application has processed, with one request at a time. The next request covers the messages that
 * were processed meanwhile.
 */
export class Inbox implements Subscription {
  readonly #requests: Requests;
  readonly #onGap: (gap: Gap) => void;
  #at: KnownPosition | undefined; // undefined: there is no inbox
  #done: KnownPosition | undefined; // all messages up to this position are processed
  #acked: KnownPosition | undefined; // the position that the server has confirmed
  #acking = false; // an acknowledgement is pending
  #work: Promise<unknown> = Promise.resolve(); // settles when all received messages are processed
  /** The same for messages received from rooms, which the inbox may keep too. */
  #elsewhere: Promise<unknown> = Promise.resolve();

  constructor(requests: Requests, onGap: (gap: Gap) => void) {
    this.#requests = requests;
    this.#onGap = onGap;
  }

  /** Starts a connection with the position that the server has stored. */
  open(cursor: KnownPosition | undefined): void {
    const at = this.#at;
    this.#acked = cursor;
    if (!cursor || !at || !covers(at, cursor)) this.#at = cursor;
    if (cursor && at && cursor.epoch !== at.epoch) this.#reportGap("epoch", at, cursor);
    this.#acknowledge();
  }

  accept(position: KnownPosition, prev: unknown): boolean {
    const at = this.#at;
    if (!at) return true;
    if (covers(at, position)) return false;
    if (!follows(position, prev, at)) {
      const reason = position.epoch === at.epoch ? "unknown" : "epoch";
      this.#reportGap(reason, at, positionBefore(position, prev));
    }
    this.#at = position;
    return true;
  }

  isRequested(): boolean {
    return false;
  }

  /** Notes work for a message that did not arrive through the inbox. */
  noteElsewhere(work: Promise<unknown>[]): void {
    if (this.#at && work.length > 0) this.#elsewhere = Promise.all([this.#elsewhere, ...work]);
  }

  noteShown(position: KnownPosition, work: Promise<unknown>[]): void {
    this.#work = Promise.all([this.#work, ...work]).then(() => {
      this.#done = position;
      this.#acknowledge();
    });
  }

  updatePosition(update: PositionUpdate): void {
    const at = this.#at;
    if (!at || !applies(update, at)) return;
    const { to, reason } = update;
    this.#at = to;
    if (reason) this.#reportGap(reason, at, to);
    this.noteShown(to, [this.#elsewhere]); // skipped messages may have arrived from a room
  }

  #acknowledge(): void {
    const done = this.#done;
    if (this.#acking || !this.#requests.connected || !done || !this.#acked) return;
    if (done.epoch !== this.#at?.epoch || covers(this.#acked, done)) return;
    this.#acking = true;
    const { offset, epoch } = done;
    this.#requests.send({ type: "ack", offset, epoch }, (error) => {
      this.#acking = false;
      if (error && error.code !== "position") return; // the next message acknowledges again
      this.#acked = done;
      this.#acknowledge();
    });
  }

  #reportGap(reason: string, from: KnownPosition, to: KnownPosition | undefined): void {
    this.#onGap({ room: undefined, reason, from, to });
  }
}
