import type { Member, Presence, PresenceChange, PresentUser } from "../api.js";
import { Handlers } from "./handlers.js";
import { asString, type Raw } from "./wire.js";

/** RoomPresence is what a room shows of its members, and the changes of that. */
export class RoomPresence {
  /** Whether the application has asked for presence. */
  wanted = false;
  now = toPresence("nothing", 0, 0, []);
  readonly handlers = new Handlers<[now: Presence, change: PresenceChange]>();
  #members = new Map<unknown, Member>(); // those of now, by key
  #ownKey: unknown;
  #version: unknown; // undefined: the server must send everything
  #asked = false; // over this connection
  #live = false; // the request was answered, and the frames are in sequence

  /** Returns what a join must say about presence: true, a version, or undefined. */
  ask(): unknown {
    if (!this.wanted || this.#asked) return undefined; // another join changes nothing
    this.#asked = true;
    return this.#version ?? true;
  }

  /** Handles the answer to a join. asked: what the join said about presence. */
  answered(content: unknown, asked?: unknown): void {
    const { key, show } = Object(content);
    this.#ownKey = key ?? this.#ownKey; // missing if the room does not show its members
    if (!asked) return;
    this.#live = true;
    if (show === "nothing") this.clear();
  }

  /** Notes that no frames follow: the connection was lost, or the request was refused. */
  stop(): void {
    this.#asked = this.#live = false;
  }

  /** Shows nothing. */
  clear(): void {
    this.#version = undefined;
    this.#show({ show: "nothing", user_count: 0, connection_count: 0 });
  }

  /**
   * Handles a presence frame. Reports whether the client must ask again, because it does not have
   * the version to which the difference applies.
   */
  receive(frame: Raw): boolean {
    if (!this.#live) return false;
    const { prev, ver } = frame;
    const follows = prev === undefined || prev === this.#version;
    this.#version = follows ? ver : undefined;
    if (follows) this.#show(frame);
    else this.stop();
    return !follows;
  }

  /** Shows what a frame says, and calls the handlers if that changes anything. */
  #show(frame: Raw): void {
    const old = this.now;
    const { show = old.show, user_count, connection_count } = frame;
    const change = this.#apply(frame);
    if (
      show === old.show && user_count === old.userCount &&
      connection_count === old.connectionCount && !Object.values(change).flat().length
    ) return;
    const sorted = [...this.#members.values()].sort((a, b) => placeOf(a) < placeOf(b) ? -1 : 1);
    this.now = toPresence(show, user_count, connection_count, sorted);
    this.handlers.call(this.now, change);
  }

  /** Changes the members, and keeps the objects of those that stay the same. */
  #apply({ prev, members: entries }: Raw): PresenceChange {
    const old = this.#members;
    const members = new Map(prev === undefined ? [] : old);
    for (const [key, entry] of Object.entries(Object(entries))) {
      if (entry === null) members.delete(key);
      else members.set(key, toMember(key, Object(entry)));
    }
    this.#members = members;
    // A key of another user is another member.
    const left = [...old.values()].filter(({ key, user }) => members.get(key)?.user !== user);
    const change: Record<keyof PresenceChange, Member[]> = { joined: [], left, updated: [] };
    for (const [key, member] of members) {
      const before = old.get(key);
      const me = key === this.#ownKey; // which may have changed
      const next = member.me === me ? member : { ...member, me };
      const isSame = before && (before === next || JSON.stringify(before) === JSON.stringify(next));
      members.set(key, isSame ? before : next);
      if (!isSame) change[before?.user === next.user ? "updated" : "joined"].push(next);
    }
    return change;
  }
}

function toPresence(
  show: any, userCount: any, connectionCount: any, members: Member[],
): Presence {
  return { show, userCount, connectionCount, members, users: () => toUsers(members) };
}

function toUsers(members: Member[]): PresentUser[] {
  const users = new Map<unknown, Member[]>();
  for (const member of members) {
    const user = member.user ?? member; // anonymous members are not one user
    users.set(user, [...users.get(user) ?? [], member]);
  }
  return [...users.values()].map((members) => ({
    user: members[0]!.user,
    info: members[0]!.info,
    members,
    away: members.every(({ away }) => away),
    me: members.some(({ me }) => me),
  }));
}

function toMember(key: string, { user, info, state, away }: Raw): Member {
  return {
    key,
    user: asString(user) ?? null,
    info,
    state,
    away: away === true,
    me: false,
  };
}

/** Returns a string by which members are sorted. Names have no control characters. */
function placeOf({ user, key }: Member): string {
  return `${user ?? ""}\0${key}`;
}
