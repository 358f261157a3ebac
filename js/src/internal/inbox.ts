import type { Gap } from "../api.js";
import { before, follows, isOld, leadsOn, type Place } from "./place.js";
import type { Requests } from "./requests.js";
import type { Jump, Mark } from "./wire.js";

/**
 * Inbox is where we are in what the server keeps for the user. It acknowledges what the
 * application is done with, one request at a time: the next one covers what was done meanwhile.
 */
export class Inbox implements Place {
  readonly #requests: Requests;
  readonly #tell: (gap: Gap) => void;
  #at: Mark | undefined; // undefined: there is none
  #done: Mark | undefined; // with all up to here
  #acked: Mark | undefined; // as far as the server has said
  #asking = false;
  #work: Promise<unknown> = Promise.resolve(); // for all that came
  #elsewhere: Promise<unknown> = Promise.resolve(); // for what came from rooms, and may be kept here too

  constructor(requests: Requests, tell: (gap: Gap) => void) {
    this.#requests = requests;
    this.#tell = tell;
  }

  /** There is a new connection, and this is where the server is. */
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

  /** Something was shown that did not come from here. */
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
    this.took(to, [this.#elsewhere]); // what is in front of it may have come from a room
  }

  #ack(): void {
    const done = this.#done;
    if (this.#asking || !this.#requests.connected || !done || !this.#acked) return;
    if (done.epoch !== this.#at?.epoch || isOld(done, this.#acked)) return;
    this.#asking = true;
    const { offset, epoch } = done;
    this.#requests.make({ type: "ack", offset, epoch }, (error) => {
      this.#asking = false;
      if (error && error.code !== "position") return; // asked again with the next message
      this.#acked = done;
      this.#ack();
    });
  }

  #missing(reason: string, from: Mark, to: Mark | undefined): void {
    this.#tell({ room: undefined, reason, from, to });
  }
}
