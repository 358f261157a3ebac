// Messages to the server, the answers to them, and messages from it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { codeOf, message, outcome, settled, World } from "./kit.js";

const contents = (socket) => socket.requests.filter(({ type }) => type === "send")
  .map(({ content }) => content);

test("a message is sent, and the server accepts or refuses it", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const good = client.all.send("chat", "hi");
  assert.equal(await outcome(good), "pending");
  world.socket.reply("send");
  assert.equal(await outcome(good), undefined);
  const bad = client.all.send("chat", "hi");
  world.socket.refuse("send", "forbidden", "not you");
  const error = await outcome(bad);
  assert.ok(error instanceof RealtimeError && error instanceof Error);
  const { name, code, message: text } = error;
  assert.deepEqual([name, code, text], ["RealtimeError", "forbidden", "not you"]);
});

test("what waits for a connection is sent in order, behind the joins", async (t) => {
  const world = new World(t);
  const client = world.connect();
  const room = client.join("lobby");
  for (const content of [1, 2, 3]) room.send("chat", content);
  client.call("count");
  await settled();
  assert.deepEqual(world.socket.sent, []);
  world.socket.welcome();
  assert.deepEqual(world.socket.requests.map(({ type }) => type),
    ["join", "send", "send", "send", "call"]);
  assert.deepEqual(contents(world.socket), [1, 2, 3]);
});

test("what was not answered is sent again, in the old order and with the same ids", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const room = client.join("lobby");
  const sent = [room.send("chat", 1), room.send("chat", 2)];
  const [join, first, second] = world.socket.requests;
  world.socket.receive({ message_type: "reply", id: first.id });
  sent.push(room.send("chat", 3));
  const third = world.socket.last("send");
  world.socket.end(1006);
  sent.push(room.send("chat", 4));
  await world.nextAttempt();
  world.socket.welcome();

  assert.equal(join.type, "join");
  assert.equal(world.socket.requests[0].type, "join");
  assert.deepEqual(contents(world.socket), [2, 3, 4]);
  assert.deepEqual(world.socket.requests.slice(1, 3), [second, third]);
  for (const { id } of world.socket.requests) world.socket.receive({ message_type: "reply", id });
  assert.deepEqual(await Promise.all(sent), [undefined, undefined, undefined, undefined]);
});

test("each message has an id of its own", async (t) => {
  const world = new World(t);
  const client = await world.open();
  for (let i = 0; i < 100; i++) client.all.send("chat", i);
  const ids = world.socket.requests.map(({ message_id }) => message_id);
  assert.equal(new Set(ids).size, 100);
  for (const id of ids) assert.match(id, /^[A-Za-z0-9_-]{16}$/);
});

const requests = [
  ["send", (client) => client.all.send("chat", "hi")],
  ["call", (client) => client.call("add", 1, { timeout: 0 })],
  ["history", (client) => client.join("lobby").history()],
  ["ping", (client) => client.ping()],
];

for (const connected of [false, true]) {
  const where = connected ? "for answers" : "for a connection";

  for (const [type, request] of requests) {
    test(`500 may wait ${where}: ${type}`, async (t) => {
      const world = new World(t);
      const client = connected ? await world.open() : world.connect();
      client.join("lobby");
      if (connected) world.socket.reply("join");
      const made = Array.from({ length: 501 }, () => request(client));
      assert.equal(await codeOf(made[500]), "outbox_full");
      assert.equal(await outcome(made[499]), "pending");
      if (!connected) {
        world.socket.welcome();
        world.socket.reply("join");
      }
      const asked = world.socket.requests.filter((asked) => asked.type === type);
      assert.equal(asked.length, 500);
      assert.deepEqual(asked, asked.toSorted((a, b) => a.id - b.id));
      world.socket.receive({ message_type: "reply", id: asked[7].id });
      assert.equal(await outcome(request(client)), "pending", "there is room again");
      assert.equal(await codeOf(request(client)), "outbox_full");
    });
  }

  test(`2 MiB may wait ${where}, and what is made then`, async (t) => {
    const world = new World(t);
    const client = connected
      ? await world.open({}, undefined, { max_message_bytes: undefined })
      : world.connect();
    const large = "é".repeat(1 << 19); // two bytes each
    const made = Array.from({ length: 3 }, () => client.all.send("chat", large));
    assert.deepEqual(await Promise.all(made.map(outcome)).then((all) => all.map((it) => it?.code ?? it)),
      ["pending", "pending", "outbox_full"]);
    if (!connected) world.socket.welcome({ max_message_bytes: undefined });
    world.socket.reply("send");
    assert.equal(await outcome(client.all.send("chat", large)), "pending");
    world.socket.end(1006);
    assert.equal(await codeOf(client.ping()), "outbox_full");
  });
}

test("what was given up counts until it has left", async (t) => {
  const world = new World(t);
  const client = await world.open();
  world.socket.bufferedAmount = 2_097_152;
  assert.equal(await codeOf(client.call("add")), "outbox_full");
  client.handle("large", () => "x");
  world.socket.receive({ message_type: "call", id: 1, method: "large" });
  await settled();
  assert.deepEqual(world.socket.sent, [], "and a server that does not read gets no answers");
  world.socket.bufferedAmount = 0;
  assert.equal(await outcome(client.call("add")), "pending");
});

for (const connected of [false, true]) {
  test(`a room that is one too many is refused, ${connected ? "on a connection" : "without one"}`, async (t) => {
    const world = new World(t);
    const client = connected ? await world.open() : world.connect();
    const errors = [];
    const join = (i) => {
      const room = client.join(`r${i}`);
      room.onError(({ code }) => errors.push(`${room.name} ${code}`));
      return room;
    };
    for (let i = 0; i < 501; i++) join(i);
    await settled();
    assert.deepEqual(errors, ["r500 outbox_full"]);
    if (!connected) world.socket.welcome();
    const asked = world.socket.requests;
    assert.equal(asked.length, 500);
    for (const { id } of asked) world.socket.receive({ message_type: "reply", id });
    assert.equal(join(500).joined, false);
    assert.equal(world.socket.last("join").room, "r500", "it may be asked for again");
  });
}

test("coming and going on a connection that stalls is bounded", async (t) => {
  const world = new World(t);
  const client = await world.open();
  for (let i = 0; i < 2_000; i++) {
    const room = client.join("lobby", { members: true });
    room.onError(() => {});
    room.leave();
    if (i % 10 === 0) client.join(`r${i}`).leave();
    await null;
    t.mock.timers.tick(1);
  }
  assert.ok(world.socket.sent.length < 510, `${world.socket.sent.length}`);
});

test("rooms that were left without a connection are not remembered without end", async (t) => {
  const world = new World(t);
  const client = await world.open({}, undefined, { session: "s1" });
  world.socket.end(1006);
  for (let i = 0; i < 1_001; i++) client.join(`r${i}`).leave();
  await world.nextAttempt();
  world.socket.welcome();
  assert.deepEqual(world.socket.requests, [], "the session is not gone on with");
});

test("the bounds of an outbox can be set", async (t) => {
  const world = new World(t);
  const client = world.connect({ outbox: { messages: 1 } });
  const first = client.all.send("chat", 1);
  assert.equal(await codeOf(client.all.send("chat", 2)), "outbox_full");
  assert.equal(await codeOf(client.call("anything")), "outbox_full");
  await settled();
  world.socket.welcome();
  world.socket.end(1006);
  assert.equal(await outcome(first), "pending", "what waits is not given up");
});

test("what the server would not take is not sent", async (t) => {
  const world = new World(t);
  const client = world.connect();
  const early = client.all.send("chat", "x".repeat(1_000));
  await settled();
  world.socket.welcome({ max_message_bytes: 1_000 });
  assert.equal(await codeOf(early), "too_large");
  const room = 1_000 - JSON.stringify({
    type: "send", id: 2, all: true, message_type: "chat", content: "", message_id: "x".repeat(16),
  }).length;
  const fits = client.all.send("chat", "x".repeat(room));
  assert.equal(await outcome(fits), "pending");
  assert.equal(await codeOf(client.all.send("chat", "x".repeat(room + 1))), "too_large");
  assert.equal(await codeOf(client.call("anything", "x".repeat(1_000))), "too_large");
  assert.equal(world.socket.sent.length, 1);
  assert.equal(world.socket.sent[0].length, 1_000);
});

test("a final end rejects what waits", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const sent = client.all.send("chat", 1);
  world.socket.end(4403, "not you");
  const error = await outcome(sent);
  assert.deepEqual([error.code, error.message], ["closed", "not you"]);
  assert.equal(await codeOf(client.all.send("chat", 2)), "closed");
});

test("content that is no JSON rejects", async (t) => {
  const world = new World(t);
  const client = await world.open();
  assert.ok(await outcome(client.all.send("chat", 1n)) instanceof TypeError);
});

for (const [name, content] of [
  ["Uint8Array", new Uint8Array([0, 127, 128, 255])],
  ["ArrayBuffer", new Uint8Array([0, 127, 128, 255]).buffer],
  ["a part of a buffer", new Uint8Array([9, 0, 127, 128, 255, 9]).subarray(1, 5)],
  ["DataView", new DataView(new Uint8Array([0, 127, 128, 255]).buffer)],
]) {
  test(`bytes are sent as bytes: ${name}`, async (t) => {
    const world = new World(t);
    const client = await world.open();
    client.user("bob").send("frame", content);
    const [data] = world.socket.sent;
    assert.ok(data instanceof Uint8Array);
    assert.deepEqual([...data.slice(-4)], [0, 127, 128, 255]);
    const { id, message_id, ...request } = world.socket.requests[0];
    assert.deepEqual(request, { type: "send", user: "bob", message_type: "frame" });
    assert.equal(data.length, 1 + data[0] + 4);
  });
}

test("a long header of bytes has its length in two", async (t) => {
  const world = new World(t);
  const client = await world.open();
  client.join("r".repeat(255)).send("frame", new Uint8Array([7]));
  const data = world.socket.sent.at(-1);
  const length = (data[0] & 0x7f) + 128 * data[1];
  const header = JSON.parse(new TextDecoder().decode(data.subarray(2, 2 + length)));
  assert.equal(header.room.length, 255);
  assert.deepEqual([...data.subarray(2 + length)], [7]);
});

test("bytes that were sent are a copy", async (t) => {
  const world = new World(t);
  const client = world.connect();
  const content = new Uint8Array([1]);
  client.all.send("frame", content);
  content[0] = 2;
  await settled();
  world.socket.welcome();
  assert.equal(world.socket.sent[0].at(-1), 1);
});

test("a call has an answer, or an error", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const sum = client.call("add", { a: 1, b: 2 });
  const { id, ...request } = world.socket.last("call");
  assert.deepEqual(request, { type: "call", method: "add", content: { a: 1, b: 2 } });
  world.socket.reply("call", 3);
  assert.equal(await sum, 3);
  const fails = client.call("add");
  world.socket.refuse("call", "too_hard");
  assert.equal(await codeOf(fails), "too_hard");
});

test("answers may come in any order, and twice", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const answers = [client.call("a"), client.call("b")];
  const [a, b] = world.socket.requests;
  for (const { id, method } of [b, a, b]) {
    world.socket.receive({ message_type: "reply", id, content: method });
  }
  assert.deepEqual(await Promise.all(answers), ["a", "b"]);
});

for (const [timeout, after] of [[undefined, 10_000], [500, 500]]) {
  test(`a call is given up after ${after} ms`, async (t) => {
    const world = new World(t);
    const client = await world.open();
    const answer = client.call("add", null, { timeout });
    await world.pass(after - 250);
    assert.equal(await outcome(answer), "pending");
    await world.pass(250);
    assert.equal(await codeOf(answer), "timeout");
    assert.doesNotThrow(() => world.socket.reply("call", 3), "an answer that comes too late");
  });
}

for (const timeout of [0, Infinity, 2 ** 31]) {
  test(`a timeout of ${timeout} is none`, async (t) => {
    const world = new World(t);
    const client = await world.open();
    const answer = client.call("add", null, { timeout });
    await world.pass(20_000);
    assert.equal(await outcome(answer), "pending");
  });
}

test("a call waits for a connection, but not longer than its timeout", async (t) => {
  const world = new World(t);
  const client = world.connect();
  const early = client.call("a", null, { timeout: 1_000 });
  early.catch(() => {}); // nobody looks at it in time
  const late = client.call("b");
  await world.pass(1_000);
  assert.equal(await codeOf(early), "timeout");
  world.socket.welcome();
  assert.deepEqual(world.socket.requests.map(({ method }) => method), ["b"]);
  world.socket.reply("call", 1);
  assert.equal(await late, 1);
});

test("a call is never made twice", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const answer = client.call("pay");
  world.socket.end(1006);
  assert.equal(await codeOf(answer), "disconnected");
  await world.nextAttempt();
  world.socket.welcome();
  assert.deepEqual(world.socket.requests, []);
});

test("a message comes to all who handle its type, until they no longer want it", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const got = [];
  const handler = (content, { sender }) => got.push([sender, content]);
  const off = client.on("chat", handler);
  client.on("chat", handler);
  client.on("news", handler);
  world.socket.receive(message("chat", 1));
  off();
  off();
  world.socket.receive(message("chat", 2));
  world.socket.receive(message("unknown", 3));
  assert.deepEqual(got, [["bob", 1], ["bob", 1], ["bob", 2]]);
});

test("handlers stay over connections", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const got = [];
  client.on("chat", (content) => got.push(content));
  await world.comeBack();
  await world.comeBack();
  world.socket.receive(message("chat", 1));
  assert.deepEqual(got, [1]);
});

test("a handler that throws stops nobody, and is heard of", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  t.after(() => { delete globalThis.reportError; });
  const got = [];
  client.on("chat", () => { throw new Error("at once"); });
  client.on("chat", async () => { throw new Error("later"); });
  client.on("chat", (content) => got.push(content));
  world.socket.receive(message("chat", 1));
  assert.deepEqual([got, reported], [[1], []], "not in between");
  await settled();
  assert.deepEqual(reported.sort(), ["at once", "later"]);
});

test("without reportError it is heard of on the console", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const { mock } = t.mock.method(console, "error", () => {});
  client.on("chat", () => { throw new Error("oops"); });
  world.socket.receive(message("chat", 1));
  await settled();
  assert.equal(mock.calls[0].arguments[0].message, "oops");
});

test("a message that comes twice is dropped", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const got = [];
  client.on("chat", (content) => got.push(content));
  world.socket.receive(message("chat", 1, { id: "m" }));
  world.socket.receive(message("chat", 2, { id: "m" }));
  await world.comeBack();
  world.socket.receive(message("chat", 3, { id: "m" }));
  world.socket.receive(message("chat", 4, { id: "m", sender_id: "zoe" }));
  world.socket.receive(message("chat", 5));
  world.socket.receive(message("chat", 6));
  for (const guest of [undefined, "g1", "g2", "g1", undefined]) { // all without a name
    world.socket.receive(message("chat", guest, { id: "m", sender_id: null, guest }));
  }
  assert.deepEqual(got, [1, 4, 5, 6, undefined, "g1", "g2"]);
});

test("it remembers the last 10,000", async (t) => {
  const world = new World(t);
  const client = await world.open();
  let got = 0;
  client.on("chat", () => got++);
  const receive = (id) => world.socket.receive(message("chat", null, { id: `m${id}` }));
  for (let id = 0; id < 10_001; id++) receive(id);
  receive(1);
  assert.equal(got, 10_001);
  receive(0);
  assert.equal(got, 10_002, "the oldest is forgotten");
});

test("a handler that another one takes off or adds is not called any more, or yet", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const got = [];
  client.on("chat", () => {
    off();
    client.on("chat", () => got.push("added"));
  });
  const off = client.on("chat", () => got.push("taken off"));
  world.socket.receive(message("chat", 1));
  assert.deepEqual(got, []);
});
