import type { Message } from "../api.js";
import { asNumber } from "./wire.js";

const MAX_LISTED = 1_000; // the server lists no more users

/** Roster is the list of a room's users: the server's list, updated by later notices. */
export class Roster {
  users: readonly string[] = [];
  count = 0;
  #live = false; // notices update the list
  #complete = true; // users is complete

  /** Handles the answer to a request for presence. */
  replace(content: unknown): void {
    const { users, user_count: count } = Object(content);
    const all = Array.isArray(users) ? users.filter((user) => typeof user === "string") : null;
    this.#complete = all !== null;
    this.users = all?.sort() ?? [];
    this.count = asNumber(count) ?? this.users.length;
    this.#live = true;
  }

  /** Ignores notices until the next list. */
  pause(): void {
    this.#live = false;
  }

  /** Handles a message. Reports whether it changed the list. */
  update({ type, content }: Message): boolean {
    if (!this.#live || type !== "systemnotification") return false;
    const { type: what, user_id: user } = Object(content);
    if (typeof user !== "string") return false; // anonymous connections are not users
    if (what === "room_join") return this.#add(user);
    if (what === "room_leave") return this.#remove(user);
    return false;
  }

  #add(user: string): boolean {
    if (this.users.includes(user)) return false;
    this.count++;
    this.#complete &&= this.users.length < MAX_LISTED;
    this.users = this.#complete ? [...this.users, user].sort() : [];
    return true;
  }

  #remove(user: string): boolean {
    if (this.#complete && !this.users.includes(user)) return false;
    this.users = this.users.filter((other) => other !== user);
    this.count--;
    return true;
  }
}
