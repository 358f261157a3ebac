// Messages to the user that are kept until the application has taken them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { message, settled, World } from "./kit.js";

const cursor = (offset, epoch = "i1") => ({ inbox: { epoch, offset, top: offset } });

const kept = (offset, prev, more = {}) => message("chat", offset, { offset, prev, epoch: "i1", ...more });

/** A client with an inbox, and what its application gets. */
async function open(t, offset) {
  const world = new World(t);
  const client = await world.open({}, undefined, cursor(offset));
  const log = [];
  client.onGap(({ room, reason, from, to }) => log.push(`${room} ${reason} ${from?.offset}-${to?.offset}`));
  return { world, client, log };
}

async function receive({ socket }, ...frames) {
  for (const frame of frames) socket.receive(frame);
  await settled();
}

const acks = ({ socket }) => socket.requests.filter(({ type }) => type === "ack").map(({ offset }) => offset);

test("what the application has taken is acknowledged, one request at a time", async (t) => {
  const { world, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  await receive(world, kept(5, 3));
  assert.deepEqual(world.socket.last("ack"), { type: "ack", id: 1, offset: 5, epoch: "i1" });
  await receive(world, kept(6, 5), kept(8, 6));
  assert.deepEqual(acks(world), [5]);
  world.socket.reply("ack");
  assert.deepEqual(acks(world), [5, 8]);
  world.socket.reply("ack");
  await receive(world, message("chat", "not kept"));
  assert.deepEqual(acks(world), [5, 8]);
  assert.deepEqual(log, [5, 6, 8, "not kept"]);
});

test("a handler may take its time, and fail", async (t) => {
  const { world, client } = await open(t, 3);
  t.mock.method(console, "error", () => {});
  const finish = {};
  client.on("chat", (content) => new Promise((resolve, reject) => { finish[content] = { resolve, reject }; }));
  client.on("chat", () => { throw new Error("oops"); });
  await receive(world, kept(5, 3), kept(6, 5), kept(7, 6));
  finish[6].resolve();
  await settled();
  assert.deepEqual(acks(world), [], "not before the one in front of it");
  finish[5].reject(new Error("oops"));
  await settled();
  world.socket.reply("ack");
  assert.deepEqual(acks(world), [5, 6]);
  world.socket.reply("ack");
  finish[7].resolve();
  await settled();
  assert.deepEqual(acks(world), [5, 6, 7]);
});

test("an answer that did not come is not waited for with the next connection", async (t) => {
  const { world, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  await receive(world, kept(5, 3), kept(6, 5));
  await world.comeBack(cursor(3));
  assert.deepEqual(acks(world), [6], "the server does not know it");
  await receive(world, kept(5, 3), kept(6, 5), kept(7, 6));
  assert.deepEqual(log, [5, 6, 7]);
  world.socket.reply("ack");
  assert.deepEqual(acks(world), [6, 7]);
  await world.comeBack(cursor(7));
  assert.deepEqual(acks(world), [], "the server knows");
  assert.deepEqual(log, [5, 6, 7], "and nothing is missing");
});

test("what comes again while it is still worked on is not acknowledged", async (t) => {
  const { world, client } = await open(t, 3);
  let finish;
  client.on("chat", () => new Promise((resolve) => { finish = resolve; }));
  await receive(world, kept(5, 3));
  await world.comeBack(cursor(3));
  await receive(world, kept(5, 3));
  assert.deepEqual(acks(world), []);
  finish();
  await settled();
  assert.deepEqual(acks(world), [5]);
});

test("a message that is known by its id is acknowledged", async (t) => {
  const { world } = await open(t, 3);
  await receive(world, message("chat", 1, { id: "m" }), kept(5, 3, { id: "m" }));
  assert.deepEqual(acks(world), [5]);
});

test("an inbox that is another one is a gap", async (t) => {
  const { world, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  await receive(world, kept(5, 3));
  await world.comeBack(cursor(0, "i2"));
  assert.deepEqual(acks(world), [], "it does not know the old one");
  await receive(world, kept(1, 0, { epoch: "i2" }), kept(2, 0, { epoch: "i3" }));
  assert.deepEqual(log, [5, "undefined epoch 5-0", 1, "undefined epoch 1-0", 2]);
  assert.equal(world.socket.last("ack").epoch, "i3");
});

test("another client of the user may be faster", async (t) => {
  const { world, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  await world.comeBack(cursor(9));
  await receive(world, kept(10, 9));
  assert.deepEqual(log, [10]);
});

test("what is not for us is acknowledged, and what is lost is told", async (t) => {
  const { world, client, log } = await open(t, 3);
  client.on("chat", (content) => log.push(content));
  const frame = (type, more) => ({ message_type: type, epoch: "i1", ...more });
  await receive(world, frame("position", { offset: 7 }));
  assert.deepEqual(acks(world), [7]);
  world.socket.reply("ack");
  await receive(world, frame("position", { offset: 9, recovered: false, reason: "expired" }), kept(10, 9));
  await receive(world, frame("skipped", { from: 10, to: 12, reason: "slow" }), kept(15, 14));
  assert.deepEqual(log, [
    "undefined expired 7-9", 10, "undefined slow 10-12", "undefined unknown 12-14", 15,
  ]);
  world.socket.reply("ack");
  assert.deepEqual(acks(world).at(-1), 15);
});

test("what came from a room is acknowledged when it is done with", async (t) => {
  const { world, client } = await open(t, 3);
  let finish;
  client.on("chat", (content) => content === "both" && new Promise((resolve) => { finish = resolve; }));
  await receive(world, message("chat", "both", { id: "m", room: "lobby" }),
    { message_type: "position", epoch: "i1", offset: 5 }, kept(6, 5));
  assert.deepEqual(acks(world), []);
  finish();
  await settled();
  assert.deepEqual(acks(world), [5]);
});

test("a refusal is not asked for again and again", async (t) => {
  const { world } = await open(t, 3);
  await receive(world, kept(5, 3), kept(6, 5));
  assert.deepEqual(acks(world), [5]);
  world.socket.refuse("ack", "position");
  assert.deepEqual(acks(world), [5, 6], "of this one it may know");
  await receive(world, kept(7, 6));
  world.socket.refuse("ack", "internal");
  assert.deepEqual(acks(world), [5, 6]);
  await receive(world, kept(8, 7));
  assert.deepEqual(acks(world), [5, 6, 8]);
});

for (const [cursorAfter, want] of [[3, [5]], [5, []]]) {
  test(`what is done without a connection, with the server at ${cursorAfter}`, async (t) => {
    const { world, client } = await open(t, 3);
    let finish;
    client.on("chat", () => new Promise((resolve) => { finish = resolve; }));
    await receive(world, kept(5, 3));
    world.socket.end(1006);
    finish();
    await world.nextAttempt();
    world.socket.welcome(cursor(cursorAfter));
    await settled();
    assert.deepEqual(acks(world), want);
  });
}

test("the first connection has no gap", async (t) => {
  const world = new World(t);
  const client = world.connect();
  const gaps = [];
  client.onGap((gap) => gaps.push(gap));
  await settled();
  world.socket.welcome();
  await settled();
  assert.deepEqual(gaps, []);
});

test("without an inbox nothing is acknowledged", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const got = [];
  client.on("chat", (content) => got.push(content));
  await receive(world, kept(5, 3));
  assert.deepEqual([got, acks(world)], [[5], []]);
});

test("what the server has lost, and we have, is not missing", async (t) => {
  const { world, client, log } = await open(t, 3);
  client.on("chat", (content) => {
    log.push(content);
    return new Promise(() => {});
  });
  await receive(world, kept(5, 3), kept(6, 5), kept(7, 6));
  await world.comeBack(cursor(3));
  const lost = { message_type: "position", epoch: "i1", offset: 6, recovered: false, reason: "overflow" };
  await receive(world, lost, kept(7, 6), kept(8, 7));
  assert.deepEqual(log, [5, 6, 7, 8]);
});

test("an inbox that begins anew is acknowledged over the same connection", async (t) => {
  const { world } = await open(t, 3);
  await receive(world, kept(5, 3));
  world.socket.reply("ack");
  await receive(world, kept(1, 0, { epoch: "i2" }));
  assert.equal(world.socket.last("ack").epoch, "i2");
  const anew = { message_type: "position", epoch: "i3", offset: 4, recovered: false, reason: "epoch" };
  await receive(world, anew, kept(5, 4, { epoch: "i3" }));
  world.socket.reply("ack");
  const { epoch, offset } = world.socket.last("ack");
  assert.deepEqual([epoch, offset], ["i3", 5]);
});

test("a message to the user and to a room is done with when it has been shown once", async (t) => {
  const { world, client, log } = await open(t, 3);
  let finish;
  client.on("chat", (content) => {
    log.push(content);
    return new Promise((resolve) => { finish = resolve; });
  });
  const room = client.join("lobby");
  room.on("chat", (content) => { log.push(`lobby ${content}`); });
  world.socket.reply("join", { epoch: "r1", offset: 0, top: 0 });
  const both = { id: "m", sender_id: null };
  await receive(world, kept(1, 0, { ...both, room: "lobby", epoch: "r1" }), kept(5, 3, both));
  assert.deepEqual(log, ["lobby 1", 1]);
  assert.deepEqual(acks(world), [], "its handler is not done");
  finish();
  await settled();
  assert.deepEqual(acks(world), [5]);
  await receive(world, kept(6, 5));
  assert.deepEqual(log, ["lobby 1", 1, 6], "the place has come on");
});
