import type { Message } from "../api.js";
import { asNumber } from "./wire.js";

const MOST = 1_000; // whose names a server tells

/** Roster is who is in a room: a list that the server gave, and the notices behind it. */
export class Roster {
  users: readonly string[] = [];
  count = 0;
  #follows = false; // whether notices are news
  #complete = true; // whether users has all

  /** Takes the answer to a request for presence. */
  list(content: unknown): void {
    const { users, user_count: count } = Object(content);
    const all = Array.isArray(users) ? users.filter((user) => typeof user === "string") : null;
    this.#complete = all !== null;
    this.users = all?.sort() ?? [];
    this.count = asNumber(count) ?? this.users.length;
    this.#follows = true;
  }

  /** The notices from now on are not about this list. */
  pause(): void {
    this.#follows = false;
  }

  /** Takes a message, and reports whether it was news. */
  follow({ type, content }: Message): boolean {
    if (!this.#follows || type !== "systemnotification") return false;
    const { type: what, user_id: user } = Object(content);
    if (typeof user !== "string") return false; // anonymous connections are no users
    if (what === "room_join") return this.#come(user);
    if (what === "room_leave") return this.#go(user);
    return false;
  }

  #come(user: string): boolean {
    if (this.users.includes(user)) return false;
    this.count++;
    this.#complete &&= this.users.length < MOST;
    this.users = this.#complete ? [...this.users, user].sort() : [];
    return true;
  }

  #go(user: string): boolean {
    if (this.#complete && !this.users.includes(user)) return false;
    this.users = this.users.filter((other) => other !== user);
    this.count--;
    return true;
  }
}
