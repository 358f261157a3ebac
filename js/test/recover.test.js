// Rooms that keep history: missed messages arrive once and in order, and lost ones are reported.

import assert from "node:assert/strict";
import { test } from "node:test";
import { message } from "./helpers.js";
import { frame, joined, joins, kept, lobby, receive, since, take } from "./lobby.js";

test("missed messages arrive after a reconnect, and then onJoin reports their number", async (t) => {
  const { env, log } = await lobby(t, 5);
  receive(env, kept(7, 5));
  await env.reopen();
  const [{ id, ...join }] = env.socket.requests;
  assert.deepEqual(join, { type: "join", room: "lobby", since: since(7) });
  receive(env, kept(9, 7)); // sent again below
  env.socket.reply("join", joined(7, 12, { recovered: true }));
  receive(env, kept(9, 7), message("chat", "not kept", { room: "lobby" }), kept(12, 9), kept(13, 12));
  assert.deepEqual(take(log), [7, 9, "not kept", 12, "got 2", 13]);
  await env.reopen();
  env.socket.reply("join", joined(13, 14, { recovered: true }));
  receive(env, kept(14, 13));
  assert.deepEqual(take(log), [14, "got 1"]);
});

test("onJoin is called at once if no message was missed", async (t) => {
  const { env, log } = await lobby(t, 5);
  await env.reopen();
  env.socket.reply("join", joined(5, 5, { recovered: true }));
  assert.deepEqual(take(log), ["got 0"]);
});

test("an interrupted recovery continues over the next connection", async (t) => {
  const { env, log } = await lobby(t, 5);
  await env.reopen();
  env.socket.reply("join", joined(5, 9, { recovered: true }));
  receive(env, kept(7, 5));
  await env.reopen();
  assert.deepEqual(env.socket.last("join").since, since(7));
  env.socket.reply("join", joined(7, 9, { recovered: true }));
  receive(env, kept(9, 7));
  assert.deepEqual(take(log), [7, 9, "got 2"]);
});

for (const reason of ["expired", "overflow", "ahead"]) {
  test(`messages that are no longer kept are a gap: ${reason}`, async (t) => {
    const { env, log } = await lobby(t, 50);
    await env.reopen();
    const to = reason === "ahead" ? 20 : 60;
    env.socket.reply("join", joined(to, to, { recovered: false, reason }));
    receive(env, kept(to + 1, to));
    assert.deepEqual(take(log), ["back", `${reason} 50-${to}`, to + 1]);
  });
}

test("a new epoch is a gap", async (t) => {
  const { env, log, room } = await lobby(t, 50);
  await env.reopen();
  env.socket.reply("join", { epoch: "r2", offset: 2, top: 2, recovered: false, reason: "epoch" });
  receive(env, kept(3, 2, { epoch: "r2" }));
  assert.deepEqual(take(log), ["back", "epoch 50-2", 3]);
  await env.reopen();
  assert.deepEqual(env.socket.last("join").since, since(3, "r2"));
  assert.equal(room.joined, false);
});

test("all messages of the new epoch follow the gap", async (t) => {
  const { env, log } = await lobby(t, 50);
  await env.reopen();
  env.socket.reply("join", { epoch: "r2", offset: 0, top: 2, recovered: false, reason: "epoch" });
  for (const [at, prev] of [[1, 0], [2, 1], [3, 2]]) receive(env, kept(at, prev, { epoch: "r2" }));
  assert.deepEqual(take(log), ["back", "epoch 50-0", 1, 2, 3]);
});

test("a room that no longer keeps messages has a gap after each reconnect", async (t) => {
  const { env, log } = await lobby(t, 50);
  await env.reopen();
  env.socket.reply("join", { recovered: false, reason: "unknown" });
  await env.reopen();
  assert.equal(env.socket.last("join").since, undefined);
  env.socket.reply("join");
  assert.deepEqual(take(log),
    ["back", "unknown 50-undefined", "back", "unknown undefined-undefined"]);
});

test("missing messages are requested", async (t) => {
  const { env, log } = await lobby(t, 5);
  receive(env, kept(9, 7));
  assert.deepEqual(joins(env).map((join) => join.since), [undefined, since(5)]);
  receive(env, kept(10, 9), kept(12, 11), message("chat", "not kept", { room: "lobby" }));
  assert.equal(joins(env).length, 2, "one request is sent");
  env.socket.reply("join", joined(5, 12, { recovered: true }));
  receive(env, kept(7, 5), kept(9, 7), kept(10, 9), kept(12, 10));
  assert.deepEqual(take(log), ["not kept", 7, 9, 10, 12, "got 4"]);
});

test("a client that is removed during a recovery does not become a member again", async (t) => {
  const { env, room, log } = await lobby(t, 5);
  room.onError(({ code }) => log.push(code));
  receive(env, kept(9, 7), { message_type: "left", room: "lobby" });
  assert.equal(env.socket.requests.at(-1).type, "leave");
  env.socket.reply("join", joined(5, 9, { recovered: true }));
  assert.deepEqual([room.joined, take(log)], [false, ["removed"]]);
});

test("a message of another epoch makes the client request missing messages", async (t) => {
  const { env, log } = await lobby(t, 5);
  receive(env, kept(1, 0, { epoch: "r2" }));
  assert.deepEqual(env.socket.last("join").since, since(5));
  env.socket.reply("join", { epoch: "r2", offset: 1, top: 1, recovered: false, reason: "epoch" });
  receive(env, kept(2, 1, { epoch: "r2" }));
  assert.deepEqual(take(log), ["back", "epoch 5-1", 2]);
});

test("missing messages of a lossy room are a gap", async (t) => {
  const { env, log } = await lobby(t, 5, { more: { lossy: true } });
  receive(env, kept(9, 7), kept(10, 9));
  assert.equal(joins(env).length, 1);
  assert.deepEqual(take(log), ["slow 5-7", 9, 10]);
  receive(env, kept(3, 2, { epoch: "r2" })); // the missing messages are unknown
  assert.deepEqual(env.socket.last("join").since, since(10));
});

test("a repeated message is dropped, whatever its ID", async (t) => {
  const { env, log } = await lobby(t, 5);
  receive(env, kept(7, 5), kept(7, 5, { id: "m" }), kept(5, 4), kept(9, 7, { id: "n" }));
  receive(env, kept(10, 9, { id: "n" }), kept(11, 10)); // the ID is known, the position is not
  assert.deepEqual(take(log), [7, 9, 11]);
});

test("a position frame advances the position", async (t) => {
  const { env, log } = await lobby(t, 5);
  receive(env, frame("position", { offset: 8 }), kept(9, 8), frame("position", { offset: 6 }), kept(10, 9));
  assert.deepEqual(take(log), [9, 10]);
  await env.reopen();
  env.socket.reply("join", joined(10, 20, { recovered: true }));
  receive(env, frame("position", { offset: 20 }));
  assert.deepEqual(take(log), ["got 0"], "a position frame can complete a recovery");
});

test("a position frame with recovered false reports lost messages", async (t) => {
  const { env, log } = await lobby(t, 5);
  receive(env, frame("position", { offset: 8, recovered: false, reason: "expired" }), kept(9, 8));
  assert.deepEqual(take(log), ["expired 5-8", 9]);
  receive(env, frame("position", { offset: 12, recovered: false }));
  assert.deepEqual(take(log), ["unknown 9-12"], "without a reason");
});

for (const lost of [
  frame("position", { offset: 20, recovered: false, reason: "overflow" }),
  frame("skipped", { from: 7, to: 20, reason: "slow" }),
]) {
  test(`messages lost during a recovery are a gap: ${lost.message_type}`, async (t) => {
    const { env, log } = await lobby(t, 5);
    await env.reopen();
    env.socket.reply("join", joined(5, 20, { recovered: true }));
    receive(env, kept(7, 5), lost, kept(21, 20));
    assert.deepEqual(take(log), [7, "back", `${lost.reason} 7-20`, 21]);
  });
}

test("a position of another epoch makes the client request missing messages", async (t) => {
  const { env } = await lobby(t, 5);
  receive(env, frame("position", { offset: 8, epoch: "r2" }));
  assert.deepEqual(env.socket.last("join").since, since(5));
});

test("skipped messages are reported unless they were received", async (t) => {
  const { env, log } = await lobby(t, 5);
  const skipped = (from, to) => frame("skipped", { from, to, reason: "slow" });
  receive(env, skipped(5, 8), kept(9, 8), skipped(5, 8), skipped(10, 11), kept(12, 11));
  assert.deepEqual(take(log), ["slow 5-8", 9, "slow 9-11", 12]);
});

test("position frames have no effect during a join, and in rooms without a position", async (t) => {
  const { env, log } = await lobby(t, 5);
  await env.reopen();
  receive(env, frame("skipped", { from: 5, to: 9, reason: "slow" }), frame("position", { offset: 12 }));
  env.socket.reply("join", joined(5, 5, { recovered: true }));
  receive(env, kept(6, 5));
  assert.deepEqual(take(log), ["got 0", 6]);
});

test("onGap of the client reports the gaps of all rooms and of the client itself", async (t) => {
  const inbox = { epoch: "i1", offset: 0, top: 0 };
  const { env, client } = await lobby(t, 5, { welcome: { inbox } });
  client.join("hall"); // keeps nothing
  env.socket.reply("join");
  const gaps = [];
  client.onGap(({ room, reason }) => gaps.push(`${room} ${reason}`));
  const reopen = async (welcome, recovered) => {
    await env.reopen(welcome);
    for (const { id, room } of joins(env)) {
      const content = room === "hall" ? undefined : joined(5, 5, { recovered, reason: "expired" });
      env.socket.receive({ message_type: "reply", id, content });
    }
    return take(gaps);
  };
  assert.deepEqual(await reopen({ inbox }, true), ["hall unknown"]);
  assert.deepEqual(await reopen({ inbox }, false), ["lobby expired", "hall unknown"]);
  assert.deepEqual(await reopen({}, true), ["undefined unknown", "hall unknown"]);
});

test("a refused recovery ends the membership with a leave", async (t) => {
  const { env, room, log } = await lobby(t, 5);
  room.onError(({ code }) => log.push(code));
  receive(env, kept(9, 7));
  env.socket.refuse("join", "forbidden");
  assert.equal(env.socket.requests.at(-1).type, "leave");
  assert.deepEqual([room.joined, take(log)], [false, ["forbidden"]]);
});
