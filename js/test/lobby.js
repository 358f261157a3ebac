// What the tests of rooms that keep history have in common.

import assert from "node:assert/strict";
import { message, World } from "./kit.js";

export const EPOCH = "r1";

/** A message of the lobby that is kept. */
export const kept = (offset, prev, more = {}) =>
  message("chat", offset, { room: "lobby", offset, prev, epoch: EPOCH, ...more });

export const joined = (offset, top = offset, more = {}) => ({ epoch: EPOCH, offset, top, ...more });

export const since = (offset, epoch = EPOCH) => ({ epoch, offset });

/** A client in the lobby, at an offset, and what it hears. */
export async function lobby(t, offset, { options, more, welcome } = {}) {
  const world = new World(t);
  const client = await world.open({}, undefined, welcome);
  const room = client.join("lobby", options);
  const log = [];
  room.on("chat", (content) => log.push(content));
  room.onJoin(({ first, gap, recovered }) => log.push(first ? "in" : gap ? "back" : `got ${recovered}`));
  room.onGap(({ reason, from, to }) => log.push(`${reason} ${from?.offset}-${to?.offset}`));
  world.socket.reply("join", joined(offset, offset, more));
  assert.deepEqual(take(log), ["in"]);
  return { world, client, room, log };
}

/** What has been logged since the last time. */
export const take = (log) => log.splice(0);

export const receive = ({ socket }, ...frames) => frames.forEach((frame) => socket.receive(frame));

export const joins = ({ socket }) => socket.requests.filter(({ type }) => type === "join");

export const frame = (type, more) => ({ message_type: type, room: "lobby", epoch: EPOCH, ...more });
