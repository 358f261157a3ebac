// Rooms that keep history: joins with history, pages of history, and options of send.

import assert from "node:assert/strict";
import { test } from "node:test";
import { codeOf, message, outcome, TestEnv } from "./helpers.js";
import { EPOCH, joined, joins, kept, lobby, receive, since, take } from "./lobby.js";

test("a join may ask for the newest messages", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby", { history: 2 });
  const log = [];
  room.on("chat", (content) => log.push(content));
  room.onJoin((join) => log.push(join));
  const { id, ...join } = env.socket.last("join");
  assert.deepEqual(join, { type: "join", room: "lobby", history: 2 });
  receive(env, kept(9, 7)); // a new message, sent again below
  env.socket.reply("join", joined(5, 9));
  receive(env, kept(7, 5), kept(9, 7), kept(10, 9));
  assert.deepEqual(log, [{ first: true, gap: false, recovered: 0 }, 7, 9, 10]);
  client.join("lobby", { history: 50 });
  assert.equal(joins(env).length, 1);
  await env.reopen();
  assert.deepEqual([env.socket.last("join").history, env.socket.last("join").since],
    [undefined, since(10)]);
});

test("each join asks for the newest messages until one is answered", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  client.join("lobby", { history: 2 });
  await env.reopen();
  assert.equal(env.socket.last("join").history, 2);
});

test("a client that leaves and joins again starts again", async (t) => {
  const { env, client, room } = await lobby(t, 5);
  room.leave();
  await env.pass(1);
  client.join("lobby");
  assert.equal(env.socket.last("join").since, undefined);
});

test("a join with history after a leave delivers messages that were delivered before", async (t) => {
  const { env, client, room, log } = await lobby(t, 5);
  receive(env, kept(6, 5, { id: "a" }));
  room.leave();
  await env.pass(1);
  const again = client.join("lobby", { history: 50 });
  again.on("chat", (content) => log.push(content));
  env.socket.reply("join", joined(5, 6));
  receive(env, kept(6, 5, { id: "a" }), kept(7, 6, { id: "b" }), message("chat", 7, { id: "b" }));
  assert.deepEqual(take(log), [6, 6, 7]);
});

test("a client that was removed and joins again receives what it has missed", async (t) => {
  const { env, client, room, log } = await lobby(t, 5);
  room.onError(() => {});
  receive(env, { message_type: "left", room: "lobby" }, kept(9, 7));
  assert.equal(joins(env).length, 1, "a gap does not make the client join again");
  take(log);
  client.join("lobby");
  assert.deepEqual(env.socket.last("join").since, since(5));
  env.socket.reply("join", joined(5, 7, { recovered: true }));
  receive(env, kept(7, 5));
  assert.deepEqual(take(log), [7, "got 1"]);
});

test("a room that was not joined has no position", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.on("chat", (content) => got.push(content));
  receive(env, kept(5, 3), kept(9, 7));
  assert.deepEqual([got, env.socket.requests], [[5, 9], []]);
});

test("a repeated message without an ID is recognised by its position", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open(); // the application has added it to rooms
  const got = [];
  client.on("chat", (content, { room, epoch }) => got.push([content, room, epoch]));
  const hall = { room: "hall" };
  const newEpoch = { epoch: "r2" };
  const ours = { room: undefined };
  for (const more of [{}, hall, newEpoch, ours]) {
    receive(env, kept(5, 3, more), kept(5, 3, more), kept(7, 5, more));
  }
  await env.reopen();
  receive(env, kept(5, 3), kept(7, 5, hall), kept(7, 5, newEpoch), kept(5, 3, ours), kept(8, 7));
  assert.deepEqual(got, [
    [5, "lobby", EPOCH], [7, "lobby", EPOCH], [5, "hall", EPOCH], [7, "hall", EPOCH],
    [5, "lobby", "r2"], [7, "lobby", "r2"], [5, undefined, EPOCH], [7, undefined, EPOCH],
    [8, "lobby", EPOCH],
  ]);
});

test("a message to two rooms is delivered with the room through which it arrives first", async (t) => {
  const { env, client, room, log } = await lobby(t, 5);
  const hall = client.join("hall");
  env.socket.reply("join", joined(1));
  hall.on("chat", (content) => log.push(`hall ${content}`));
  const both = { id: "m", sender_id: null };
  await env.reopen();
  const [lobbyJoin, hallJoin] = joins(env);
  env.socket.receive({ message_type: "reply", id: lobbyJoin.id, content: joined(5, 7, { recovered: true }) });
  env.socket.receive({ message_type: "reply", id: hallJoin.id, content: joined(1, 3, { recovered: true }) });
  receive(env, kept(6, 5, both));
  for (let i = 0; i < 5_000; i++) receive(env, message("other", 0, { id: `${i}` })); // messages in between
  receive(env, kept(2, 1, { ...both, room: "hall" }), kept(3, 2, { room: "hall" }), kept(7, 6));
  assert.deepEqual(take(log), [6, "hall 3", 7, "got 2"]);
  await env.reopen();
  assert.deepEqual(joins(env).map((join) => join.since), [since(7), since(3)], "both positions have advanced");
  assert.equal(room.joined, false);
});

for (const history of [undefined, 1]) {
  test(`messages before the answer to a join are delivered again if history is requested: ${history}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const log = [];
    client.on("chat", (content) => log.push(content));
    receive(env, kept(5, 3)); // the application has added the client
    client.join("lobby", { history });
    receive(env, kept(7, 5));
    env.socket.reply("join", joined(history ? 5 : 7, 7));
    receive(env, ...history ? [kept(7, 5)] : [], kept(8, 7));
    assert.deepEqual(log, [5, 7, 8]);
  });
}

test("pages of history go back and forth", async (t) => {
  const { env, room, log } = await lobby(t, 9);
  const page = room.history({ limit: 2 });
  env.socket.reply("history", {
    epoch: EPOCH, top: 9, more: true, messages: [kept(7, 5, { id: "m" }), kept(9, 7), 7, { room: "lobby" }],
  });
  const { messages, more, top } = await page;
  assert.deepEqual(messages.map(({ content, offset, epoch }) => [content, offset, epoch]),
    [[7, 7, EPOCH], [9, 9, EPOCH]]);
  assert.deepEqual([more, top], [true, since(9)]);

  const asked = () => {
    const { type, id, ...query } = env.socket.last("history");
    return query;
  };
  room.history({ before: messages[0] });
  assert.deepEqual(asked(), { room: "lobby", before: 7, epoch: EPOCH });
  room.history({ after: messages[1], limit: 5 });
  assert.deepEqual(asked(), { room: "lobby", limit: 5, after: 9, epoch: EPOCH });
  room.history();
  assert.deepEqual(asked(), { room: "lobby" });
  assert.deepEqual(take(log), [], "history calls no handlers");
  receive(env, kept(10, 9, { id: "m" }));
  assert.deepEqual(take(log), [10], "history does not count as delivered");
});

test("a history request is repeated, and may be refused", async (t) => {
  const { env, room } = await lobby(t, 9);
  const page = room.history();
  await env.reopen();
  assert.equal(await outcome(page), "pending");
  env.socket.refuse("history", "no_history");
  assert.equal(await codeOf(page), "no_history");
  const odd = room.history();
  env.socket.reply("history", { messages: 7 });
  assert.deepEqual(await odd, { messages: [], more: false, top: { epoch: undefined, offset: undefined } });
});

test("infinite numbers become the server's maximum", async (t) => {
  const { env, room, client } = await lobby(t, 9);
  for (const [ttl, want] of [
    [Infinity, Number.MAX_SAFE_INTEGER], [1e300, Number.MAX_SAFE_INTEGER], [0.5, 1], [0, 0],
    [-7, -7], // which the server refuses
  ]) {
    room.send("chat", "hi", { ttl });
    assert.equal(env.socket.last("send").ttl_ms, want, String(ttl));
    env.socket.reply("send");
  }
  room.history({ limit: Infinity });
  assert.equal(env.socket.last("history").limit, 1_000);
  env.socket.reply("history", {});
  client.join("hall", { history: Infinity });
  assert.equal(env.socket.last("join").history, 1_000);
});

test("a send may have a time to live and a receipt", async (t) => {
  const { env, room, client } = await lobby(t, 9);
  const sent = room.send("chat", "hi", { ttl: 1_500.5, receipt: true });
  const { ttl_ms, receipt, message_id: id } = env.socket.last("send");
  assert.deepEqual({ ttl_ms, receipt }, { ttl_ms: 1_501, receipt: true });
  env.socket.reply("send", { offset: 10, epoch: EPOCH });
  assert.deepEqual(await sent, { offset: 10, epoch: EPOCH, id });
  const decided = client.all.send("chat", "hi", { receipt: true });
  env.socket.reply("send");
  assert.deepEqual(await decided, { id: env.socket.last("send").message_id });
  const plain = client.all.send("chat", "hi");
  assert.equal("receipt" in env.socket.last("send"), false);
  env.socket.reply("send", { offset: 11, epoch: EPOCH });
  assert.deepEqual(await plain, { id: env.socket.last("send").message_id });
});
