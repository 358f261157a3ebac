import type { Gap } from "../api.js";
import { before, follows, isOld, leadsOn, type Place } from "./place.js";
import type { Requests } from "./requests.js";
import type { Jump, Mark } from "./wire.js";

/**
 * Inbox is the client's position in the user's inbox. It acknowledges the messages that the
 * application has processed, with one request at a time. The next request covers the messages that
 * were processed meanwhile.
 */
export class Inbox implements Place {
  readonly #requests: Requests;
  readonly #tell: (gap: Gap) => void;
  #at: Mark | undefined; // undefined; // undefined: there is no inbox
  #done: Mark | undefined; // all messages up to this position are processed
  #acked: Mark | undefined; // the position that the server has confirmed
  #asking = false;
  #work: Promise<unknown> = Promise.resolve(); // settles when all received messages are processed
  /** The same for messages received from rooms, which the inbox may keep too. */
  #elsewhere: Promise<unknown> = Promise.resolve();

  constructor(requests: Requests, tell: (gap: Gap) => void) {
    this.#requests = requests;
    this.#tell = tell;
  }

  /** Starts a connection with the position that the server has stored. */
  open(cursor: Mark | undefined): void {
    const at = this.#at;
    this.#acked = cursor;
    if (!cursor || !at || !isOld(cursor, at)) this.#at = cursor;
    if (cursor && at && cursor.epoch !== at.epoch) this.#missing("epoch", at, cursor);
    this.#ack();
  }

  comesTo(mark: Mark, prev: unknown): boolean {
    const at = this.#at;
    if (!at) return true;
    if (isOld(mark, at)) return false;
    if (!follows(mark, prev, at)) {
      this.#missing(mark.epoch === at.epoch ? "unknown" : "epoch", at, before(mark, prev));
    }
    this.#at = mark;
    return true;
  }

  asked(): boolean {
    return false;
  }

  /** Notes work for a message that did not arrive through the inbox. */
  shown(work: Promise<unknown>[]): void {
    if (this.#at && work.length > 0) this.#elsewhere = Promise.all([this.#elsewhere, ...work]);
  }

  took(mark: Mark, work: Promise<unknown>[]): void {
    this.#work = Promise.all([this.#work, ...work]).then(() => {
      this.#done = mark;
      this.#ack();
    });
  }

  jump(jump: Jump): void {
    const at = this.#at;
    if (!at || !leadsOn(jump, at)) return;
    const { to, reason } = jump;
    this.#at = to;
    if (reason) this.#missing(reason, at, to);
    this.took(to, [this.#elsewhere]); // skipped messages may have arrived from a room
  }

  #ack(): void {
    const done = this.#done;
    if (this.#asking || !this.#requests.connected || !done || !this.#acked) return;
    if (done.epoch !== this.#at?.epoch || isOld(done, this.#acked)) return;
    this.#asking = true;
    const { offset, epoch } = done;
    this.#requests.make({ type: "ack", offset, epoch }, (error) => {
      this.#asking = false;
      if (error && error.code !== "position") return; // the next message acknowledges again
      this.#acked = done;
      this.#ack();
    });
  }

  #missing(reason: string, from: Mark, to: Mark | undefined): void {
    this.#tell({ room: undefined, reason, from, to });
  }
}
