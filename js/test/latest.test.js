// Latest values: only the newest of each key is sent, received and shown.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { message, settled, TestEnv } from "./helpers.js";

const value = (latest, content, more) => message("shape", content, { room: "lobby", latest, ...more });
const keysFrame = (keys, more) => ({ message_type: "latest", room: "lobby", keys, ...more });
const verFrame = (ver) => ({ message_type: "latest", room: "lobby", ver });
const addedFrame = { message_type: "joined", room: "lobby" };
const sends = ({ requests }) => requests.filter(({ type }) => type === "send");
const contents = (socket) => sends(socket).map(({ content }) => content);

async function lobby(t) {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby");
  env.socket.reply("join");
  const log = [];
  room.on("shape", (content, { latest }) => { log.push(`${latest} ${content}`); });
  return { env, client, room, log, take: () => log.splice(0) };
}

/** Returns a handler whose calls settle when the test says so. */
function slow(log) {
  const open = [];
  const handler = (content) => {
    log.push(content);
    return new Promise((resolve) => open.push(resolve));
  };
  return [handler, async () => {
    open.shift()();
    await settled();
    await settled();
  }];
}

test("a value is sent at once, without an ID and a promise", async (t) => {
  const { env, client, room } = await lobby(t);
  assert.equal(room.send("shape", { x: 1 }, { latest: "a" }), undefined);
  assert.deepEqual(JSON.parse(env.socket.sent.at(-1)),
    { type: "send", room: "lobby", message_type: "shape", latest: "a", content: { x: 1 } });
  assert.equal(client.conn("c1").send("shape", null, { latest: "a" }), undefined);
  assert.equal(env.socket.sent.at(-1),
    '{"type":"send","conn":"c1","message_type":"shape","latest":"a","content":null}');
  room.send("shape", new Uint8Array([1]), { latest: "b" });
  assert.ok(env.socket.sent.at(-1) instanceof Uint8Array);
});

test("the newest value of each key is sent at most each 33 ms", async (t) => {
  const { env, room, client } = await lobby(t);
  for (const content of [1, 2, 3]) {
    room.send("shape", `a${content}`, { latest: "a" });
    room.send("shape", `b${content}`, { latest: "b" });
    client.conn("c").send("shape", `c${content}`, { latest: "a" });
  }
  assert.deepEqual(contents(env.socket), ["a1", "b1", "c1"]);
  await env.pass(32);
  assert.equal(sends(env.socket).length, 3);
  await env.pass(1);
  assert.deepEqual(contents(env.socket).slice(3).sort(), ["a3", "b3", "c3"]);
  await env.pass(1_000);
  assert.equal(sends(env.socket).length, 6);
  for (let i = 0; i < 200; i++) {
    room.send("shape", i, { latest: "a" });
    await env.pass(5);
  }
  await env.pass(33);
  const some = contents(env.socket).slice(6);
  assert.ok(some.length >= 25 && some.length <= 32, `${some.length}`);
  assert.equal(some.at(-1), 199);
});

test("a value is what it was when it was sent", async (t) => {
  const { env, room } = await lobby(t);
  const shape = { x: 1 };
  room.send("shape", shape, { latest: "a" });
  shape.x = 2;
  room.send("shape", shape, { latest: "a" });
  shape.x = 3;
  await env.pass(33);
  assert.deepEqual(contents(env.socket), [{ x: 1 }, { x: 2 }]);
});

test("the newest values of 100 keys wait for the room", async (t) => {
  const { env, room, client } = await lobby(t);
  env.socket.end(1006);
  for (let i = 0; i < 120; i++) room.send("shape", i, { latest: `k${i}` });
  room.send("shape", "new", { latest: "k119" });
  client.conn("c").send("shape", "to c", { latest: "a" });
  await env.nextAttempt();
  env.socket.welcome();
  assert.deepEqual(contents(env.socket), ["to c"], "the room is not joined");
  env.socket.reply("join");
  assert.deepEqual(contents(env.socket), ["to c", ...Array.from({ length: 99 }, (_, i) => i + 20), "new"]);
  await env.reopen();
  env.socket.reply("join");
  assert.deepEqual(contents(env.socket), [], "none is repeated");
});

test("values wait while more than 16 KiB wait to be sent", async (t) => {
  const { env, room } = await lobby(t);
  env.socket.bufferedAmount = 16_385;
  for (const content of [1, 2]) room.send("shape", content, { latest: "a" });
  await env.pass(1_000);
  assert.deepEqual(contents(env.socket), []);
  env.socket.bufferedAmount = 16_384;
  await env.pass(33);
  assert.deepEqual(contents(env.socket), [2]);
});

test("a value that is too large, or has a wrong option, throws", async (t) => {
  const { env, room } = await lobby(t);
  const throws = (code, content, options) => assert.throws(() => room.send("shape", content, options),
    (error) => error instanceof RealtimeError && error.code === code);
  throws("too_large", "x".repeat(65_536), { latest: "a" });
  for (const more of [{ id: "x" }, { ttl: 1 }, { receipt: true }, { ephemeral: true }]) {
    throws("bad_request", 1, { latest: "a", ...more });
  }
  for (const latest of ["", "x".repeat(65), "a\n", " a", 7]) throws("bad_request", 1, { latest });
  assert.deepEqual(sends(env.socket), []);
});

test("a held value for which the next connection is too small is reported", async (t) => {
  const { env, room } = await lobby(t);
  const { mock } = t.mock.method(console, "error", () => {});
  env.socket.end(1006);
  room.send("shape", "x".repeat(2_000), { latest: "a" });
  room.send("shape", "small", { latest: "b" });
  await env.nextAttempt();
  env.socket.welcome({ max_message_bytes: 1_000 });
  env.socket.reply("join");
  await settled();
  assert.deepEqual(contents(env.socket), ["small"]);
  assert.deepEqual(mock.calls.map(({ arguments: [{ code }] }) => code), ["too_large"]);
});

test("values wait in no outbox", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({ outbox: { messages: 1 } });
  const room = client.join("lobby");
  env.socket.reply("join");
  void client.all.send("chat", 1).catch(() => {});
  room.send("shape", 2, { latest: "a" });
  assert.deepEqual(contents(env.socket), [1, 2]);
});

test("handlers get the newest value of each key once a burst has arrived", async (t) => {
  const { env, client, room, take } = await lobby(t);
  const got = [];
  room.on("shape", (content, { latest, room: name, offset, id }) => got.push({ content, latest, name, offset, id }));
  client.on("shape", (content) => got.push(content));
  for (let i = 1; i <= 10; i++) env.socket.receive(value(`k${i % 2}`, i));
  assert.deepEqual(take(), []);
  await settled();
  assert.deepEqual(take(), ["k1 9", "k0 10"]);
  const more = { name: "lobby", offset: undefined, id: undefined };
  assert.deepEqual(got, [{ content: 9, latest: "k1", ...more }, 9, { content: 10, latest: "k0", ...more }, 10]);
});

test("a slow handler gets the newest value when it is ready", async (t) => {
  const { env, room, take } = await lobby(t);
  const got = [];
  const [handler, finish] = slow(got);
  room.on("shape", handler);
  env.socket.receive(value("a", "a1"));
  env.socket.receive(value("b", "b1"));
  await settled();
  assert.deepEqual(got, ["a1"]);
  for (let i = 2; i < 10; i++) {
    env.socket.receive(value("a", `a${i}`));
    env.socket.receive(value("b", `b${i}`));
    await settled();
  }
  assert.deepEqual(got, ["a1"]);
  await finish();
  assert.deepEqual(got, ["a1", "b9"]);
  await finish();
  assert.deepEqual(got, ["a1", "b9", "a9"]);
  await finish();
  assert.deepEqual([got.length, take().length], [3, 3]);
  env.socket.receive(value("a", "a10"));
  await settled();
  assert.equal(got.at(-1), "a10");
});

test("frames that arrive while a handler ends are conflated too", async (t) => {
  const { env, room } = await lobby(t);
  const got = [];
  let finish;
  room.on("shape", (content) => {
    got.push(content);
    return new Promise((resolve) => { finish = resolve; });
  });
  env.socket.receive(value("a", 1));
  await settled();
  env.socket.receive(value("a", 2));
  finish();
  await null;
  queueMicrotask(() => env.socket.receive(value("a", 3)));
  for (let i = 0; i < 50; i++) await null; // microtasks of the client
  env.socket.receive(value("a", 4));
  await settled();
  assert.deepEqual(got, [1, 4]);
});

test("each room, and the client, waits only for its own handlers", async (t) => {
  const { env, client, room } = await lobby(t);
  const got = [];
  const [handler] = slow(got);
  room.on("shape", handler);
  client.join("hall").on("shape", (content) => got.push(content));
  client.on("score", (content) => got.push(content));
  env.socket.receive(value("a", "lobby"));
  await settled();
  env.socket.receive(value("a", "lobby 2"));
  env.socket.receive(value("a", "hall", { room: "hall" }));
  env.socket.receive(message("score", "mine", { latest: "a" }));
  env.socket.receive(value("a", "unknown", { room: "never joined" }));
  await settled();
  assert.deepEqual(got, ["lobby", "hall", "mine"]);
});

test("an error of a handler does not stop the next value", async (t) => {
  const { env, room, take } = await lobby(t);
  const { mock } = t.mock.method(console, "error", () => {});
  room.on("shape", async () => { throw new Error("x"); });
  env.socket.receive(value("a", 1));
  await settled();
  env.socket.receive(value("a", 2));
  await settled();
  assert.deepEqual([take(), mock.calls.length], [["a 1", "a 2"], 2]);
});

test("the next join names the last version", async (t) => {
  const { env } = await lobby(t);
  const named = async () => {
    await env.reopen();
    const { latest } = env.socket.last("join");
    env.socket.reply("join");
    return latest;
  };
  assert.equal("latest" in env.socket.last("join"), false);
  env.socket.receive(keysFrame([]));
  assert.equal(await named(), undefined, "there was never a value");
  env.socket.receive(value("k4", 1));
  assert.equal(await named(), 0, "values have no version");
  for (const key of ["k9", "k4", "k7"]) env.socket.receive(value(key, 2));
  env.socket.receive(verFrame(9));
  env.socket.receive(value("k4", 3));
  assert.equal(await named(), 9);
  env.socket.receive(verFrame(4));
  assert.equal(await named(), 4, "the last one counts");
  env.socket.receive(keysFrame(["k4"]));
  assert.equal(await named(), 0, "the values did not arrive");
  env.socket.receive(value("k4", 4));
  env.socket.receive(verFrame(3));
  assert.equal(await named(), 3);
  env.socket.receive(keysFrame([]));
  assert.equal(await named(), 0, "there were values");
});

test("a room that never had a value may have a version", async (t) => {
  const { env } = await lobby(t);
  env.socket.receive(verFrame(9));
  await env.reopen();
  assert.equal(env.socket.last("join").latest, 9);
  env.socket.reply("join");
  env.socket.receive(keysFrame([]));
  await env.reopen();
  assert.equal("latest" in env.socket.last("join"), false);
});

test("a frame with a version removes nothing", async (t) => {
  const { env, client, take } = await lobby(t);
  const got = [];
  client.on("score", (content) => got.push(content));
  env.socket.receive(value("a", 1));
  env.socket.receive(message("score", 2, { latest: "a" }));
  env.socket.receive(verFrame(9));
  env.socket.receive({ message_type: "latest", ver: 9 });
  await settled();
  assert.deepEqual([take(), got], [["a 1"], [2]]);
});

test("in a room to which the application added the client, recover names the version", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  const at = (offset) => ({ message_type: "joined", room: "lobby", content: { epoch: "r1", offset, top: offset } });
  env.socket.receive(at(1));
  env.socket.receive(value("a", 1));
  env.socket.receive(verFrame(5));
  await env.reopen();
  env.socket.receive(at(9));
  assert.deepEqual(env.socket.last("recover"),
    { type: "recover", id: 1, room: "lobby", since: { epoch: "r1", offset: 1 }, latest: 5 });
});

test("without history, recover names the version that the client had before the connection", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.on("shape", (content, { latest }) => got.push(`${latest} ${content}`));
  env.socket.receive(addedFrame);
  assert.equal(env.socket.last("recover"), undefined, "there is nothing to ask for");
  env.socket.receive(value("a", 1));
  env.socket.receive(verFrame(5));
  for (let i = 0; i < 2; i++) {
    await env.reopen();
    env.socket.receive(addedFrame);
    env.socket.receive(value("b", 1)); // one of all that exist
    env.socket.receive(verFrame(9));
    const { id, ...request } = env.socket.last("recover");
    assert.deepEqual(request, { type: "recover", room: "lobby", latest: 5 });
  }
  env.socket.reply("recover");
  env.socket.receive(value("a", null));
  env.socket.receive(value("b", 1));
  env.socket.receive(verFrame(9));
  await settled();
  assert.ok(got.includes("a null"));
  await env.reopen();
  env.socket.receive(addedFrame);
  assert.equal(env.socket.last("recover").latest, 9);
});

test("a value that was removed while the client was away does not stay in a room that it is added to", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const shown = new Map();
  client.on("shape", (content, { latest }) => {
    if (content === null) shown.delete(latest);
    else shown.set(latest, content);
  });
  env.socket.receive(addedFrame);
  for (const key of ["a", "b"]) env.socket.receive(value(key, 1));
  await settled();
  assert.deepEqual([...shown.keys()], ["a", "b"]);
  await env.reopen();
  env.socket.receive(addedFrame);
  env.socket.receive(value("b", 2));
  assert.equal(env.socket.last("recover").latest, 0);
  env.socket.reply("recover");
  env.socket.receive(keysFrame(["b"]));
  env.socket.receive(value("b", 2));
  await settled();
  assert.deepEqual([...shown], [["b", 2]]);
});

for (const isAddedBefore of [true, false]) {
  const when = isAddedBefore ? "before" : "during";
  test(`missing values are requested after the refused join of a client added ${when} it`, async (t) => {
    const { env, client, room } = await lobby(t);
    const log = [];
    room.onError(({ code }) => log.push(code));
    client.onGap(({ room }) => log.push(`gap ${room ?? ""}`));
    env.socket.receive(value("a", 1));
    env.socket.receive(verFrame(5));
    await env.reopen();
    env.socket.receive(addedFrame);
    env.socket.refuse("join", "forbidden");
    assert.deepEqual(log.splice(0), ["gap ", "forbidden", "gap lobby"]);
    if (isAddedBefore) {
      await env.reopen();
      env.socket.receive(addedFrame);
      env.socket.reply("recover");
      client.join("lobby");
      env.socket.refuse("join", "forbidden");
      assert.deepEqual(log.splice(0), ["gap ", "gap lobby", "forbidden"], "the client missed nothing");
    }
    const asked = env.socket.requests.filter(({ type }) => type === "recover");
    assert.deepEqual(asked.map(({ room, latest }) => ({ room, latest })), [{ room: "lobby", latest: 5 }]);
    assert.equal(room.joined, true);
  });
}

test("values that do not exist any more are shown as removed", async (t) => {
  const { env, take } = await lobby(t);
  for (const key of ["a", "b"]) env.socket.receive(value(key, 1));
  await settled();
  env.socket.receive(value("a", null));
  await settled();
  assert.deepEqual(take(), ["a 1", "b 1", "a null"]);
  env.socket.receive(value("c", 1));
  env.socket.receive(value("d", 1));
  await settled();
  take();
  env.socket.receive(keysFrame(["c"]));
  env.socket.receive(value("c", 2));
  await settled();
  assert.deepEqual(take(), ["b null", "d null", "c 2"]);
  env.socket.receive(keysFrame(["c"]));
  await settled();
  assert.deepEqual(take(), []);
});

test("a removal has the type that the key had last", async (t) => {
  const { env, client, room } = await lobby(t);
  const got = [];
  for (const type of ["shape", "line"]) room.on(type, (content) => got.push(`${type} ${content}`));
  env.socket.receive(value("a", 1));
  env.socket.receive(message("line", 2, { room: "lobby", latest: "a" }));
  await settled();
  env.socket.receive(keysFrame([]));
  await settled();
  assert.deepEqual(got, ["line 2", "line null"]);
  client.on("score", (content) => got.push(content));
  env.socket.receive(message("score", 1, { latest: "a" }));
  env.socket.receive(keysFrame([], { room: undefined }));
  await settled();
  assert.deepEqual(got.slice(2), [null], "also for the connection");
});

/** Returns a client with two values for its connection, and what it shows. */
async function connectionValues(t, welcome) {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, welcome);
  const log = [];
  client.on("score", (content, { latest }) => log.push(`${latest} ${content}`));
  const score = (latest, content) => env.socket.receive(message("score", content, { latest }));
  score("a", 1);
  score("b", 2);
  await settled();
  assert.deepEqual(log.splice(0), ["a 1", "b 2"]);
  return { env, score, take: async () => (await settled(), log.splice(0)) };
}

test("values for the connection are removed if its session is not resumed", async (t) => {
  const { env, score, take } = await connectionValues(t, { session: "s1" });
  await env.reopen({ session: "s2" });
  assert.deepEqual(await take(), []);
  score("b", 3); // for the new connection
  env.socket.refuse("resume", "session");
  assert.deepEqual(await take(), ["b 3", "a null"]);
  await env.reopen({ session: "s3" });
  env.socket.refuse("resume", "session");
  assert.deepEqual(await take(), ["b null"]);
});

test("values for the connection stay if its session is resumed", async (t) => {
  const { env, score, take } = await connectionValues(t, { session: "s1" });
  await env.reopen({ session: "s2" });
  env.socket.reply("resume", { rooms: [] });
  assert.deepEqual(await take(), []);
  env.socket.receive(keysFrame(["b"], { room: undefined }));
  score("b", 2);
  assert.deepEqual(await take(), ["a null", "b 2"]);
});

test("values for the connection are removed if the server keeps no sessions", async (t) => {
  const { env, take } = await connectionValues(t, {});
  env.socket.end(1006);
  assert.deepEqual(await take(), []);
  await env.nextAttempt();
  env.socket.welcome();
  assert.deepEqual(await take(), ["a null", "b null"]);
});

test("after a resume without an answer, the values for the connection are those of the next session", async (t) => {
  const { env, score, take } = await connectionValues(t, { session: "s1" });
  await env.reopen({ session: "s2" });
  await env.reopen({ session: "s3" });
  assert.deepEqual(await take(), [], "the session before may have been resumed");
  score("a", 1);
  env.socket.reply("resume", { rooms: [] });
  assert.deepEqual(await take(), ["a 1", "b null"]);
  await env.reopen({ session: "s4" });
  env.socket.reply("resume", { rooms: [] });
  assert.deepEqual(await take(), []);
});

test("values end with the membership", async (t) => {
  const { env, client, room, take } = await lobby(t);
  room.onError(() => {});
  env.socket.receive(value("a", 1));
  env.socket.receive({ message_type: "left", room: "lobby" });
  await settled();
  assert.deepEqual(take(), []);
  client.join("lobby");
  assert.equal("latest" in env.socket.last("join"), false);
  env.socket.reply("join");
  env.socket.receive(keysFrame([]));
  await settled();
  assert.deepEqual(take(), []);
});

test("a value moves no position, and is shown also if it looks like another message", async (t) => {
  const { env, room, take } = await lobby(t);
  env.socket.receive(value("a", 1, { id: "x" }));
  await settled();
  env.socket.receive(value("a", 2, { id: "x" }));
  await settled();
  assert.deepEqual(take(), ["a 1", "a 2"]);
  assert.equal(room.joined, true);
});

test("in a page, handlers are called in a later task of a channel", async (t) => {
  const { env, room } = await lobby(t);
  const { setImmediate: original } = globalThis;
  const done = new Promise((resolve) => room.on("shape", resolve));
  globalThis.setImmediate = undefined;
  t.after(() => { globalThis.setImmediate = original; });
  env.socket.receive(value("a", 1));
  env.socket.receive(value("a", 2));
  assert.equal(await done, 2);
});

test("without channels, handlers are called in a timer", async (t) => {
  const { env, take } = await lobby(t);
  const { setImmediate, MessageChannel } = globalThis;
  globalThis.setImmediate = globalThis.MessageChannel = undefined;
  env.socket.receive(value("a", 1));
  env.socket.receive(value("a", 2));
  Object.assign(globalThis, { setImmediate, MessageChannel });
  await env.pass(1);
  assert.deepEqual(take(), ["a 2"]);
});
