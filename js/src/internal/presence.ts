import type { Member, Presence, PresenceChange, PresentUser } from "../api.js";
import { Handlers } from "./handlers.js";
import { asString, toArray, type Raw } from "./wire.js";

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
    this.#ownKey = key;
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
    this.#show(new Map(), { show: "nothing", user_count: 0, connection_count: 0 });
  }

  /**
   * Handles a presence frame. Reports whether the client must ask again, because it does not have
   * the version to which the difference applies.
   */
  receive(frame: Raw): boolean {
    if (!this.#live) return false;
    const { prev, ver, set, gone } = frame;
    if (prev !== undefined && prev !== this.#version) {
      this.#version = undefined;
      this.stop();
      return true;
    }
    this.#version = ver;
    const members = new Map<unknown, Member>();
    const add = (member: Member) => {
      const me = member.key === this.#ownKey; // the own key may have changed
      members.set(member.key, member.me === me ? member : { ...member, me });
    };
    if (prev !== undefined) this.#members.forEach(add);
    for (const key of toArray(gone)) members.delete(key);
    for (const raw of toArray(set)) add(toMember(Object(raw)));
    this.#show(members, frame);
    return false;
  }

  /** Calls the handlers if the members or the other parts of a frame differ from what is shown. */
  #show(members: Map<unknown, Member>, frame: Raw): void {
    const old = this.now;
    const { show = old.show, user_count, connection_count } = frame;
    const change = this.#replace(members);
    if (
      show === old.show && user_count === old.userCount &&
      connection_count === old.connectionCount && !Object.values(change).flat().length
    ) return;
    const sorted = [...members.values()].sort((a, b) => placeOf(a) < placeOf(b) ? -1 : 1);
    this.now = toPresence(show, user_count, connection_count, sorted);
    this.handlers.call(this.now, change);
  }

  /** Replaces the members, but keeps the objects of those that have not changed. */
  #replace(members: Map<unknown, Member>): PresenceChange {
    const change: Record<"joined" | "left" | "updated", Member[]> = {
      joined: [], left: [], updated: [],
    };
    for (const [key, old] of this.#members) {
      const next = members.get(key);
      if (!next) change.left.push(old);
      else if (next === old) continue;
      else if (JSON.stringify(next) === JSON.stringify(old)) members.set(key, old);
      else change.updated.push(next);
    }
    for (const [key, member] of members) {
      if (!this.#members.has(key)) change.joined.push(member);
    }
    this.#members = members;
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

function toMember({ key, user, info, state, away }: Raw): Member {
  return {
    key: asString(key) ?? "",
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
