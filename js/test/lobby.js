// Helpers for tests of rooms that keep history.

import assert from "node:assert/strict";
import { message, TestEnv } from "./helpers.js";

export const EPOCH = "r1";

/** Returns a kept message of the lobby. */
export const kept = (offset, prev, more = {}) =>
  message("chat", offset, { room: "lobby", offset, prev, epoch: EPOCH, ...more });

export const joined = (offset, top = offset, more = {}) => ({ epoch: EPOCH, offset, top, ...more });

export const since = (offset, epoch = EPOCH) => ({ epoch, offset });

/** Returns a client in the lobby at an offset, and the log of its events. */
export async function lobby(t, offset, { options, more, welcome } = {}) {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, welcome);
  const room = client.join("lobby", options);
  const log = [];
  room.on("chat", (content) => log.push(content));
  room.onJoin(({ first, gap, recovered }) => log.push(first ? "in" : gap ? "back" : `got ${recovered}`));
  room.onGap(({ reason, from, to }) => log.push(`${reason} ${from?.offset}-${to?.offset}`));
  env.socket.reply("join", joined(offset, offset, more));
  assert.deepEqual(take(log), ["in"]);
  return { env, client, room, log };
}

/** Returns the entries since the last call. */
export const take = (log) => log.splice(0);

export const receive = ({ socket }, ...frames) => frames.forEach((frame) => socket.receive(frame));

export const joins = ({ socket }) => socket.requests.filter(({ type }) => type === "join");

export const frame = (type, more) => ({ message_type: type, room: "lobby", epoch: EPOCH, ...more });
