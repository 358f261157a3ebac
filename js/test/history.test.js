// Rooms that keep history: how to begin, pages of it, and what is sent there.

import assert from "node:assert/strict";
import { test } from "node:test";
import { codeOf, message, outcome, World } from "./kit.js";
import { EPOCH, joined, joins, kept, lobby, receive, since, take } from "./lobby.js";

test("a room may begin with the newest messages", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby", { history: 2 });
  const log = [];
  room.on("chat", (content) => log.push(content));
  room.onJoin((join) => log.push(join));
  const { id, ...join } = world.socket.last("join");
  assert.deepEqual(join, { type: "join", room: "lobby", history: 2 });
  receive(world, kept(9, 7)); // live, and comes again
  world.socket.reply("join", joined(5, 9));
  receive(world, kept(7, 5), kept(9, 7), kept(10, 9));
  assert.deepEqual(log, [{ first: true, gap: false, recovered: 0 }, 7, 9, 10]);
  client.join("lobby", { history: 50 });
  assert.equal(joins(world).length, 1);
  await world.comeBack();
  assert.deepEqual([world.socket.last("join").history, world.socket.last("join").since],
    [undefined, since(10)]);
});

test("until it has been joined, each attempt asks for the newest messages", async (t) => {
  const world = new World(t);
  const client = await world.open();
  client.join("lobby", { history: 2 });
  await world.comeBack();
  assert.equal(world.socket.last("join").history, 2);
});

test("who leaves and comes again begins anew", async (t) => {
  const { world, client, room } = await lobby(t, 5);
  room.leave();
  await world.pass(1);
  client.join("lobby");
  assert.equal(world.socket.last("join").since, undefined);
});

test("who leaves, comes again and asks for the past is shown it again", async (t) => {
  const { world, client, room, log } = await lobby(t, 5);
  receive(world, kept(6, 5, { id: "a" }));
  room.leave();
  await world.pass(1);
  const again = client.join("lobby", { history: 50 });
  again.on("chat", (content) => log.push(content));
  world.socket.reply("join", joined(5, 6));
  receive(world, kept(6, 5, { id: "a" }), kept(7, 6, { id: "b" }), message("chat", 7, { id: "b" }));
  assert.deepEqual(take(log), [6, 6, 7]);
});

test("who is taken out and comes again gets what he has missed", async (t) => {
  const { world, client, room, log } = await lobby(t, 5);
  room.onError(() => {});
  receive(world, { message_type: "left", room: "lobby" }, kept(9, 7));
  assert.equal(joins(world).length, 1, "a hole is no reason to come again");
  take(log);
  client.join("lobby");
  assert.deepEqual(world.socket.last("join").since, since(5));
  world.socket.reply("join", joined(5, 7, { recovered: true }));
  receive(world, kept(7, 5));
  assert.deepEqual(take(log), [7, "got 1"]);
});

test("a room that we did not join ourselves has no position", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const got = [];
  client.on("chat", (content) => got.push(content));
  receive(world, kept(5, 3), kept(9, 7));
  assert.deepEqual([got, world.socket.requests], [[5, 9], []]);
});

test("what has no id and comes twice is known by its place", async (t) => {
  const world = new World(t);
  const client = await world.open(); // and the application has let us into rooms
  const got = [];
  client.on("chat", (content, { room, epoch }) => got.push([content, room, epoch]));
  const hall = { room: "hall" };
  const anew = { epoch: "r2" };
  const ours = { room: undefined };
  for (const more of [{}, hall, anew, ours]) {
    receive(world, kept(5, 3, more), kept(5, 3, more), kept(7, 5, more));
  }
  await world.comeBack();
  receive(world, kept(5, 3), kept(7, 5, hall), kept(7, 5, anew), kept(5, 3, ours), kept(8, 7));
  assert.deepEqual(got, [
    [5, "lobby", EPOCH], [7, "lobby", EPOCH], [5, "hall", EPOCH], [7, "hall", EPOCH],
    [5, "lobby", "r2"], [7, "lobby", "r2"], [5, undefined, EPOCH], [7, undefined, EPOCH],
    [8, "lobby", EPOCH],
  ]);
});

test("a message to two rooms is shown with the one that it comes from first", async (t) => {
  const { world, client, room, log } = await lobby(t, 5);
  const hall = client.join("hall");
  world.socket.reply("join", joined(1));
  hall.on("chat", (content) => log.push(`hall ${content}`));
  const both = { id: "m", sender_id: null };
  await world.comeBack();
  const [lobbyJoin, hallJoin] = joins(world);
  world.socket.receive({ message_type: "reply", id: lobbyJoin.id, content: joined(5, 7, { recovered: true }) });
  world.socket.receive({ message_type: "reply", id: hallJoin.id, content: joined(1, 3, { recovered: true }) });
  receive(world, kept(6, 5, both));
  for (let i = 0; i < 5_000; i++) receive(world, message("other", 0, { id: `${i}` })); // a backlog
  receive(world, kept(2, 1, { ...both, room: "hall" }), kept(3, 2, { room: "hall" }), kept(7, 6));
  assert.deepEqual(take(log), [6, "hall 3", 7, "got 2"]);
  await world.comeBack();
  assert.deepEqual(joins(world).map((join) => join.since), [since(7), since(3)], "both have come on");
  assert.equal(room.joined, false);
});

for (const history of [undefined, 1]) {
  test(`what comes before the answer comes again if it is asked for: ${history}`, async (t) => {
    const world = new World(t);
    const client = await world.open();
    const log = [];
    client.on("chat", (content) => log.push(content));
    receive(world, kept(5, 3)); // the application has let us in
    client.join("lobby", { history });
    receive(world, kept(7, 5));
    world.socket.reply("join", joined(history ? 5 : 7, 7));
    receive(world, ...history ? [kept(7, 5)] : [], kept(8, 7));
    assert.deepEqual(log, [5, 7, 8]);
  });
}

test("pages of history go back, and forth", async (t) => {
  const { world, room, log } = await lobby(t, 9);
  const page = room.history({ limit: 2 });
  world.socket.reply("history", {
    epoch: EPOCH, top: 9, more: true, messages: [kept(7, 5, { id: "m" }), kept(9, 7), 7, { room: "lobby" }],
  });
  const { messages, more, top } = await page;
  assert.deepEqual(messages.map(({ content, offset, epoch }) => [content, offset, epoch]),
    [[7, 7, EPOCH], [9, 9, EPOCH]]);
  assert.deepEqual([more, top], [true, since(9)]);

  const asked = () => {
    const { type, id, ...query } = world.socket.last("history");
    return query;
  };
  room.history({ before: messages[0] });
  assert.deepEqual(asked(), { room: "lobby", before: 7, epoch: EPOCH });
  room.history({ after: messages[1], limit: 5 });
  assert.deepEqual(asked(), { room: "lobby", limit: 5, after: 9, epoch: EPOCH });
  room.history();
  assert.deepEqual(asked(), { room: "lobby" });
  assert.deepEqual(take(log), [], "it is no news");
  receive(world, kept(10, 9, { id: "m" }));
  assert.deepEqual(take(log), [10], "nor seen");
});

test("a request for history is made again, and may be refused", async (t) => {
  const { world, room } = await lobby(t, 9);
  const page = room.history();
  await world.comeBack();
  assert.equal(await outcome(page), "pending");
  world.socket.refuse("history", "no_history");
  assert.equal(await codeOf(page), "no_history");
  const odd = room.history();
  world.socket.reply("history", { messages: 7 });
  assert.deepEqual(await odd, { messages: [], more: false, top: { epoch: undefined, offset: undefined } });
});

test("numbers without end are as much as the server takes", async (t) => {
  const { world, room, client } = await lobby(t, 9);
  for (const [ttl, want] of [
    [Infinity, Number.MAX_SAFE_INTEGER], [1e300, Number.MAX_SAFE_INTEGER], [0.5, 1], [0, 0],
    [-0.5, -1], [-7, -1], [-Infinity, -1],
  ]) {
    room.send("chat", "hi", { ttl });
    assert.equal(world.socket.last("send").ttl_ms, want, String(ttl));
    world.socket.reply("send");
  }
  room.history({ limit: Infinity });
  assert.equal(world.socket.last("history").limit, 1_000);
  world.socket.reply("history", {});
  client.join("hall", { history: Infinity });
  assert.equal(world.socket.last("join").history, 1_000);
});

test("a send may have a key, a time to live and a receipt", async (t) => {
  const { world, room, client } = await lobby(t, 9);
  const sent = room.send("chat", "hi", { key: "k", ttl: 1_500.5, receipt: true });
  const { key, ttl_ms, receipt } = world.socket.last("send");
  assert.deepEqual({ key, ttl_ms, receipt }, { key: "k", ttl_ms: 1_501, receipt: true });
  world.socket.reply("send", { offset: 10, epoch: EPOCH });
  assert.deepEqual(await sent, { offset: 10, epoch: EPOCH });
  const decided = client.all.send("chat", "hi", { receipt: true });
  world.socket.reply("send");
  assert.deepEqual(await decided, {});
  const plain = client.all.send("chat", "hi");
  assert.equal("receipt" in world.socket.last("send"), false);
  world.socket.reply("send", { offset: 11, epoch: EPOCH });
  assert.equal(await plain, undefined);
});
