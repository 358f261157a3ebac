// Sent messages, calls and their answers, and received messages.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { codeOf, message, outcome, settled, TestEnv } from "./helpers.js";

const contents = (socket) => socket.requests.filter(({ type }) => type === "send")
  .map(({ content }) => content);

test("send resolves when the server accepts the message, and rejects when it refuses", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const good = client.all.send("chat", "hi");
  assert.equal(await outcome(good), "pending");
  env.socket.reply("send");
  assert.deepEqual(await outcome(good), { id: env.socket.last("send").message_id });
  const bad = client.all.send("chat", "hi");
  env.socket.refuse("send", "forbidden", "not you");
  const error = await outcome(bad);
  assert.ok(error instanceof RealtimeError && error instanceof Error);
  const { name, code, message: text } = error;
  assert.deepEqual([name, code, text], ["RealtimeError", "forbidden", "not you"]);
});

test("messages that wait for a connection are sent in order after the joins", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  const room = client.join("lobby");
  for (const content of [1, 2, 3]) room.send("chat", content);
  client.call("count");
  await settled();
  assert.deepEqual(env.socket.sent, []);
  env.socket.welcome();
  assert.deepEqual(env.socket.requests.map(({ type }) => type),
    ["join", "send", "send", "send", "call"]);
  assert.deepEqual(contents(env.socket), [1, 2, 3]);
});

test("requests without an answer are sent again, in the same order and with the same IDs", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby");
  const sent = [room.send("chat", 1), room.send("chat", 2)];
  const [join, first, second] = env.socket.requests;
  env.socket.receive({ message_type: "reply", id: first.id });
  sent.push(room.send("chat", 3));
  const third = env.socket.last("send");
  env.socket.end(1006);
  sent.push(room.send("chat", 4));
  await env.nextAttempt();
  env.socket.welcome();

  assert.equal(join.type, "join");
  assert.equal(env.socket.requests[0].type, "join");
  assert.deepEqual(contents(env.socket), [2, 3, 4]);
  assert.deepEqual(env.socket.requests.slice(1, 3), [second, third]);
  for (const { id } of env.socket.requests) env.socket.receive({ message_type: "reply", id });
  const ids = (await Promise.all(sent)).map(({ id }) => id);
  assert.deepEqual(ids.slice(0, 1), [first.message_id]);
  assert.deepEqual(ids.slice(1), env.socket.requests.slice(1).map(({ message_id }) => message_id));
});

test("a message may have an ID, and arrives with it", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.on("chat", (text, { id }) => got.push(id));
  const sent = client.all.send("chat", "hi", { id: "mine" });
  assert.equal(env.socket.last("send").message_id, "mine");
  env.socket.receive(message("chat", "hi", { sender_id: "alice", id: "mine" }));
  env.socket.reply("send", { id: "another", offset: 1 });
  assert.deepEqual(await sent, { id: "mine" });
  assert.deepEqual(got, ["mine"]);
  const again = client.all.send("chat", "hi", { id: "mine", receipt: true });
  env.socket.reply("send", { id: "another", duplicate: true });
  assert.deepEqual(await again, { id: "mine", duplicate: true });
});

for (const id of [
  "", " x", "x ", "\u00a0x", "x\u3000", "a\nb", "a\u0085b", "\u0000", "\ud800",
  "x".repeat(65), "é".repeat(33),
]) {
  test(`the server would not accept this ID: ${JSON.stringify(id)}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    assert.equal(await codeOf(client.all.send("chat", "hi", { id })), "bad_request");
    assert.deepEqual(env.socket.sent, []);
  });
}

for (const id of ["x", "a b", "é".repeat(32), "😀", "\ufeffx", "-1"]) {
  test(`the server accepts this ID: ${JSON.stringify(id)}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    assert.equal(await outcome(client.all.send("chat", "hi", { id })), "pending");
    assert.equal(env.socket.last("send").message_id, id);
  });
}

test("a message to the server has a receipt, and is sent again like any other message", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const sent = client.server.send("input", { x: 1 }, { receipt: true });
  const first = env.socket.last("send");
  assert.deepEqual([first.server, first.message_type, first.content, first.receipt], [true, "input", { x: 1 }, true]);
  await env.reopen();
  assert.deepEqual(env.socket.last("send"), first);
  env.socket.reply("send");
  assert.deepEqual(await outcome(sent), { id: first.message_id });
  const refused = client.server.send("inptu", new Uint8Array([1]));
  env.socket.refuse("send", "unknown_event");
  assert.equal(await codeOf(refused), "unknown_event");
});

test("each message has its own ID", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  for (let i = 0; i < 100; i++) client.all.send("chat", i);
  const ids = env.socket.requests.map(({ message_id }) => message_id);
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
    test(`500 requests may be pending ${where}: ${type}`, async (t) => {
      const env = new TestEnv(t);
      const client = connected ? await env.open() : env.connect();
      client.join("lobby");
      if (connected) env.socket.reply("join");
      const made = Array.from({ length: 501 }, () => request(client));
      assert.equal(await codeOf(made[500]), "outbox_full");
      assert.equal(await outcome(made[499]), "pending");
      if (!connected) {
        env.socket.welcome();
        env.socket.reply("join");
      }
      const asked = env.socket.requests.filter((asked) => asked.type === type);
      assert.equal(asked.length, 500);
      assert.deepEqual(asked, asked.toSorted((a, b) => a.id - b.id));
      env.socket.receive({ message_type: "reply", id: asked[7].id });
      assert.equal(await outcome(request(client)), "pending", "another request is accepted");
      assert.equal(await codeOf(request(client)), "outbox_full");
    });
  }

  test(`2 MiB may be pending ${where}, and one more request`, async (t) => {
    const env = new TestEnv(t);
    const client = connected
      ? await env.open({}, undefined, { max_message_bytes: undefined })
      : env.connect();
    const large = "é".repeat(1 << 19); // two bytes per character
    const made = Array.from({ length: 3 }, () => client.all.send("chat", large));
    assert.deepEqual(await Promise.all(made.map(outcome)).then((all) => all.map((it) => it?.code ?? it)),
      ["pending", "pending", "outbox_full"]);
    if (!connected) env.socket.welcome({ max_message_bytes: undefined });
    env.socket.reply("send");
    assert.equal(await outcome(client.all.send("chat", large)), "pending");
    env.socket.end(1006);
    assert.equal(await codeOf(client.ping()), "outbox_full");
  });
}

test("timed-out requests count until their data has left", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  env.socket.bufferedAmount = 2_097_152;
  assert.equal(await codeOf(client.call("add")), "outbox_full");
  client.handle("large", () => "x");
  env.socket.receive({ message_type: "call", id: 1, method: "large" });
  await settled();
  assert.deepEqual(env.socket.sent, [], "a server that does not read gets no answers");
  env.socket.bufferedAmount = 0;
  assert.equal(await outcome(client.call("add")), "pending");
});

for (const connected of [false, true]) {
  test(`a join above the limit is refused ${connected ? "with" : "without"} a connection`, async (t) => {
    const env = new TestEnv(t);
    const client = connected ? await env.open() : env.connect();
    const errors = [];
    const join = (i) => {
      const room = client.join(`r${i}`);
      room.onError(({ code }) => errors.push(`${room.name} ${code}`));
      return room;
    };
    for (let i = 0; i < 501; i++) join(i);
    await settled();
    assert.deepEqual(errors, ["r500 outbox_full"]);
    if (!connected) env.socket.welcome();
    const asked = env.socket.requests;
    assert.equal(asked.length, 500);
    for (const { id } of asked) env.socket.receive({ message_type: "reply", id });
    assert.equal(join(500).joined, false);
    assert.equal(env.socket.last("join").room, "r500", "the room can be joined again");
  });
}

test("joins and leaves over a stalled connection are limited", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  for (let i = 0; i < 2_000; i++) {
    const room = client.join("lobby", { presence: true });
    room.onError(() => {});
    room.leave();
    if (i % 10 === 0) client.join(`r${i}`).leave();
    await null;
    t.mock.timers.tick(1);
  }
  assert.ok(env.socket.sent.length < 510, `${env.socket.sent.length}`);
});

test("the number of remembered rooms that were left without a connection is limited", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open({}, undefined, { session: "s1" });
  env.socket.end(1006);
  for (let i = 0; i < 1_001; i++) client.join(`r${i}`).leave();
  await env.nextAttempt();
  env.socket.welcome();
  assert.deepEqual(env.socket.requests, [], "the session is not resumed");
});

test("the limits of the outbox can be set", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect({ outbox: { messages: 1 } });
  const first = client.all.send("chat", 1);
  assert.equal(await codeOf(client.all.send("chat", 2)), "outbox_full");
  assert.equal(await codeOf(client.call("anything")), "outbox_full");
  await settled();
  env.socket.welcome();
  env.socket.end(1006);
  assert.equal(await outcome(first), "pending", "pending requests are kept");
});

test("a message that is too large for the server is not sent", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  const early = client.all.send("chat", "x".repeat(1_000));
  await settled();
  env.socket.welcome({ max_message_bytes: 1_000 });
  assert.equal(await codeOf(early), "too_large");
  const room = 1_000 - JSON.stringify({
    type: "send", id: 2, all: true, message_type: "chat", content: "", message_id: "x".repeat(16),
  }).length;
  const fits = client.all.send("chat", "x".repeat(room));
  assert.equal(await outcome(fits), "pending");
  assert.equal(await codeOf(client.all.send("chat", "x".repeat(room + 1))), "too_large");
  assert.equal(await codeOf(client.call("anything", "x".repeat(1_000))), "too_large");
  assert.equal(env.socket.sent.length, 1);
  assert.equal(env.socket.sent[0].length, 1_000);
});

test("pending requests are rejected when the client stops", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const sent = client.all.send("chat", 1);
  env.socket.end(4403, "not you");
  const error = await outcome(sent);
  assert.deepEqual([error.code, error.message], ["closed", "not you"]);
  assert.equal(await codeOf(client.all.send("chat", 2)), "closed");
});

test("send rejects content that JSON cannot represent", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  assert.ok(await outcome(client.all.send("chat", 1n)) instanceof TypeError);
});

for (const [name, content] of [
  ["Uint8Array", new Uint8Array([0, 127, 128, 255])],
  ["ArrayBuffer", new Uint8Array([0, 127, 128, 255]).buffer],
  ["a part of a buffer", new Uint8Array([9, 0, 127, 128, 255, 9]).subarray(1, 5)],
  ["DataView", new DataView(new Uint8Array([0, 127, 128, 255]).buffer)],
]) {
  test(`binary content is sent as bytes: ${name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    client.user("bob").send("frame", content);
    const [data] = env.socket.sent;
    assert.ok(data instanceof Uint8Array);
    assert.deepEqual([...data.slice(-4)], [0, 127, 128, 255]);
    const { id, message_id, ...request } = env.socket.requests[0];
    assert.deepEqual(request, { type: "send", user: "bob", message_type: "frame" });
    assert.equal(data.length, 1 + data[0] + 4);
  });
}

test("the length of a long header takes two bytes", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  client.join("r".repeat(255)).send("frame", new Uint8Array([7]));
  const data = env.socket.sent.at(-1);
  const length = (data[0] & 0x7f) + 128 * data[1];
  const header = JSON.parse(new TextDecoder().decode(data.subarray(2, 2 + length)));
  assert.equal(header.room.length, 255);
  assert.deepEqual([...data.subarray(2 + length)], [7]);
});

test("binary content is copied", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  const content = new Uint8Array([1]);
  client.all.send("frame", content);
  content[0] = 2;
  await settled();
  env.socket.welcome();
  assert.equal(env.socket.sent[0].at(-1), 1);
});

test("a call resolves with the answer or rejects with the error", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const sum = client.call("add", { a: 1, b: 2 });
  const { id, ...request } = env.socket.last("call");
  assert.deepEqual(request, { type: "call", method: "add", content: { a: 1, b: 2 } });
  env.socket.reply("call", 3);
  assert.equal(await sum, 3);
  const fails = client.call("add");
  env.socket.refuse("call", "too_hard");
  assert.equal(await codeOf(fails), "too_hard");
});

test("answers may arrive in any order, and repeatedly", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const answers = [client.call("a"), client.call("b")];
  const [a, b] = env.socket.requests;
  for (const { id, method } of [b, a, b]) {
    env.socket.receive({ message_type: "reply", id, content: method });
  }
  assert.deepEqual(await Promise.all(answers), ["a", "b"]);
});

for (const [timeout, after] of [[undefined, 10_000], [500, 500]]) {
  test(`a call times out after ${after} ms`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const answer = client.call("add", null, { timeout });
    await env.pass(after - 250);
    assert.equal(await outcome(answer), "pending");
    await env.pass(250);
    assert.equal(await codeOf(answer), "timeout");
    assert.doesNotThrow(() => env.socket.reply("call", 3), "a late answer");
  });
}

for (const timeout of [0, Infinity, 2 ** 31]) {
  test(`a timeout of ${timeout} means no limit`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const answer = client.call("add", null, { timeout });
    await env.pass(20_000);
    assert.equal(await outcome(answer), "pending");
  });
}

test("a call waits for a connection no longer than its timeout", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  const early = client.call("a", null, { timeout: 1_000 });
  early.catch(() => {}); // handled below, but too late for Node
  const late = client.call("b");
  await env.pass(1_000);
  assert.equal(await codeOf(early), "timeout");
  env.socket.welcome();
  assert.deepEqual(env.socket.requests.map(({ method }) => method), ["b"]);
  env.socket.reply("call", 1);
  assert.equal(await late, 1);
});

test("a call is never repeated", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const answer = client.call("pay");
  env.socket.end(1006);
  assert.equal(await codeOf(answer), "disconnected");
  await env.nextAttempt();
  env.socket.welcome();
  assert.deepEqual(env.socket.requests, []);
});

test("all handlers of a type receive its messages until they are removed", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  const handler = (content, { sender }) => got.push([sender, content]);
  const off = client.on("chat", handler);
  client.on("chat", handler);
  client.on("news", handler);
  env.socket.receive(message("chat", 1));
  off();
  off();
  env.socket.receive(message("chat", 2));
  env.socket.receive(message("unknown", 3));
  assert.deepEqual(got, [["bob", 1], ["bob", 1], ["bob", 2]]);
});

test("handlers stay over connections", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.on("chat", (content) => got.push(content));
  await env.reopen();
  await env.reopen();
  env.socket.receive(message("chat", 1));
  assert.deepEqual(got, [1]);
});

test("an error in a handler is reported and does not stop the others", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  t.after(() => { delete globalThis.reportError; });
  const got = [];
  client.on("chat", () => { throw new Error("at once"); });
  client.on("chat", async () => { throw new Error("later"); });
  client.on("chat", (content) => got.push(content));
  env.socket.receive(message("chat", 1));
  assert.deepEqual([got, reported], [[1], []], "not before the other handlers");
  await settled();
  assert.deepEqual(reported.sort(), ["at once", "later"]);
});

test("errors are reported on the console if there is no reportError", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const { mock } = t.mock.method(console, "error", () => {});
  client.on("chat", () => { throw new Error("oops"); });
  env.socket.receive(message("chat", 1));
  await settled();
  assert.equal(mock.calls[0].arguments[0].message, "oops");
});

test("a repeated message is dropped", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.on("chat", (content) => got.push(content));
  env.socket.receive(message("chat", 1, { id: "m" }));
  env.socket.receive(message("chat", 2, { id: "m" }));
  await env.reopen();
  env.socket.receive(message("chat", 3, { id: "m" }));
  env.socket.receive(message("chat", 4, { id: "m", sender_id: "zoe" }));
  env.socket.receive(message("chat", 5));
  env.socket.receive(message("chat", 6));
  for (const guest of [undefined, "g1", "g2", "g1", undefined]) { // all without a sender
    env.socket.receive(message("chat", guest, { id: "m", sender_id: null, guest }));
  }
  assert.deepEqual(got, [1, 4, 5, 6, undefined, "g1", "g2"]);
});

test("the last 10,000 messages are remembered", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  let got = 0;
  client.on("chat", () => got++);
  const receive = (id) => env.socket.receive(message("chat", null, { id: `m${id}` }));
  for (let id = 0; id < 10_001; id++) receive(id);
  receive(1);
  assert.equal(got, 10_001);
  receive(0);
  assert.equal(got, 10_002, "the oldest message is forgotten");
});

test("a handler that is removed or added during a message is not called for it", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.on("chat", () => {
    off();
    client.on("chat", () => got.push("added"));
  });
  const off = client.on("chat", () => got.push("taken off"));
  env.socket.receive(message("chat", 1));
  assert.deepEqual(got, []);
});
