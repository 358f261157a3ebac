// The golden vectors, with which the server and the Go client are tested too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { bytesFrame, codeOf, expired, message, outcome, partsOf, settled, TestEnv } from "./helpers.js";

const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../testdata/wire/${name}.json`, import.meta.url)));
const fromServer = (kind) => vectors("server").filter((vector) => vector.kind === kind);
const fromClient = (kind) => vectors("client").filter((vector) => vector.kind === kind);

/** Returns a frame as a WebSocket delivers it. */
function dataOf({ frame, frame_base64: base64 }) {
  if (frame !== undefined) return frame;
  const { buffer, byteOffset, byteLength } = Buffer.from(base64, "base64");
  return buffer.slice(byteOffset, byteOffset + byteLength);
}

const contentOf = ({ binary, content }) => binary === undefined ? content : bytesOf(binary);

/** Returns a message as the application receives it. */
function messageOf(message) {
  const { type, sender, time, guest, conn: connection, id, room, latest, offset, epoch } = message;
  const content = contentOf(message);
  const at = new Date(Math.round(time * 1_000));
  return { type, sender, content, time: at, guest, connection, id, room, latest, offset, epoch };
}

const bytesOf = (base64) => new Uint8Array(Buffer.from(base64, "base64"));

for (const vector of fromServer("message")) {
  test(`decodes a message: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const client = env.connect();
    await settled();
    if (vector.message.type !== "welcome") env.socket.welcome();
    if (vector.message.latest) client.join("lobby"); // values of other rooms are ignored
    const got = [];
    client.on(vector.message.type, (content, message) => got.push({ content, message }));
    env.socket.open();
    env.socket.receive(dataOf(vector));
    await settled();

    assert.deepEqual(got, [{ content: contentOf(vector.message), message: messageOf(vector.message) }]);
  });
}

for (const vector of fromServer("reply")) {
  test(`decodes an answer: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const answer = client.call("anything");
    const { id } = env.socket.last("call");
    env.socket.receive(vector.binary === undefined
      ? { ...JSON.parse(vector.frame), id }
      : bytesFrame({ ...JSON.parse(partsOf(dataOf(vector))[0]), id }, bytesOf(vector.binary)));
    assert.deepEqual(await outcome(answer), contentOf(vector));
  });
}

for (const vector of fromServer("error").filter(({ id }) => id !== null)) {
  test(`decodes an error: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const answer = client.call("anything");
    env.socket.receive({ ...JSON.parse(vector.frame), id: env.socket.last("call").id });
    const error = await outcome(answer);
    assert.ok(error instanceof RealtimeError);
    const { code, message, retryAfter, data } = error;
    const { retry_ms, ...expected } = { data: undefined, ...vector.error };
    assert.deepEqual({ code, message, retryAfter, data }, { ...expected, retryAfter: retry_ms });
  });
}

for (const { name, room, refused, error: { code, message }, frame } of fromServer("refusal")) {
  test(`reports an error without an ID: ${name}`, async (t) => {
    const env = new TestEnv(t);
    const { mock } = t.mock.method(console, "error", () => {});
    const client = await env.open({ token: () => "t" });
    const errors = [];
    if (room) client.join(room).onError((error) => errors.push(error));
    env.socket.receive(frame);
    await settled();
    errors.push(...mock.calls.map(({ arguments: [error] }) => error));
    assert.equal(errors.length, 1);
    assert.equal(mock.calls.length, room ? 0 : 1);
    assert.ok(errors[0] instanceof RealtimeError);
    const text = refused ? `${refused}: ${message}` : message;
    assert.deepEqual([errors[0].code, errors[0].message], [code, text]);
    assert.equal(env.socket.last("refresh"), undefined);
  });
}

test("an expired error without an ID requests a new token", async (t) => {
  const env = new TestEnv(t);
  await env.open({ token: () => "t" });
  const [vector] = fromServer("error").filter(({ id }) => id === null);
  env.socket.receive(vector.frame);
  await settled();
  assert.equal(env.socket.last("refresh").token, "t");
});

for (const vector of fromServer("call")) {
  test(`decodes a call: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const asked = [];
    client.handle(vector.method, (content) => { asked.push(content); });
    env.socket.receive(dataOf(vector));
    await settled();
    assert.deepEqual(asked, [contentOf(vector)]);
    assert.deepEqual(env.socket.requests, [{ type: "reply", id: vector.id }]);
  });
}

for (const vector of fromServer("left")) {
  test(`decodes a removal from a room: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const room = client.join(vector.room);
    const errors = [];
    room.onError(({ code }) => errors.push(code));
    env.socket.reply("join");
    env.socket.receive(vector.frame);
    assert.deepEqual(errors, ["removed"]);
  });
}

for (const vector of [...fromServer("position"), ...fromServer("skipped")]) {
  test(`decodes a position update: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const inbox = { epoch: "i1", offset: 7, top: 7 };
    const client = await env.open({}, undefined, { inbox });
    const got = [];
    for (const type of [vector.kind, "chat"]) client.on(type, (content) => got.push(content));
    client.join("lobby");
    env.socket.reply("join", { epoch: "r1", offset: 7, top: 7 });
    const gaps = [];
    client.onGap((gap) => gaps.push(gap));
    env.socket.receive(vector.frame);
    await settled();

    const { room, position, reason } = vector;
    const from = { ...position, offset: 7 };
    assert.deepEqual(gaps, reason ? [{ room, reason, from, to: position }] : []);
    const { epoch, offset } = position;
    const next = (content, at, prev) =>
      env.socket.receive(message("chat", content, { room, offset: at, prev, epoch }));
    next("old", offset, 7);
    next("new", offset + 1, offset);
    assert.deepEqual(got, ["new"]);
  });
}

for (const vector of [...fromServer("ignored"), ...fromServer("pong")]) {
  test(`ignores: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const got = [];
    for (const type of ["large", "position"]) client.on(type, (content) => got.push(content));
    env.socket.receive(vector.frame);
    await settled();
    assert.deepEqual(got, []);
    assert.equal(env.status.state, "open");
    assert.deepEqual(env.socket.sent, []);
  });
}

test("decodes presence", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const room = client.join("lobby", { presence: true });
  env.socket.reply("join", { key: "k1", show: "members" });
  const known = new Map();
  for (const { presence, frame } of fromServer("presence")) {
    const { show = "members", prev, user_count, connection_count, members: entries = {} } = presence;
    if (prev === undefined) known.clear();
    for (const [key, entry] of Object.entries(entries)) {
      known.delete(key);
      if (!entry) continue;
      const { user = null, info, state, away = false } = entry;
      known.set(key, { key, user, info, state, away, me: key === "k1" });
    }
    env.socket.receive(frame);
    const { users, ...now } = room.presence;
    const members = [...known.values()].sort((a, b) => (a.user ?? "") < (b.user ?? "") ? -1 : 1);
    assert.deepEqual(now, { show, userCount: user_count, connectionCount: connection_count, members });
  }
});

for (const vector of fromServer("latest").filter(({ keys }) => keys)) {
  test(`decodes the keys of values: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    client.join("lobby");
    const got = [];
    client.on("shape", (content, { latest }) => got.push({ latest, content }));
    const keys = ["other", ...vector.keys];
    for (const latest of keys) {
      env.socket.receive(message("shape", 1, { room: vector.room, latest }));
    }
    await settled();
    env.socket.receive(vector.frame);
    await settled();
    assert.deepEqual(got.slice(keys.length), [{ latest: "other", content: null }]);
  });
}

for (const vector of fromServer("latest").filter(({ ver }) => ver)) {
  test(`decodes the version of values: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    client.join(vector.room);
    env.socket.reply("join");
    env.socket.receive(vector.frame);
    await env.reopen();
    assert.equal(env.socket.last("join").latest, vector.ver);
  });
}

test("the tests above cover each kind of server frame", () => {
  const kinds = new Set(vectors("server").map(({ kind }) => kind));
  assert.deepEqual([...kinds].sort(), [
    "call", "error", "ignored", "joined", "latest", "left", "message", "pong", "position", "presence",
    "refusal", "reply", "skipped",
  ]);
});

test("decodes a page of history", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const [{ content }] = fromServer("reply").filter(({ name }) => name === "history");
  const got = [];
  for (const type of ["chat", "frame"]) client.on(type, (content) => got.push(content));
  const page = client.join("lobby").history();
  env.socket.reply("history", content);
  const kept = fromServer("message").filter(({ name }) => / by a room$/.test(name));
  assert.deepEqual(await outcome(page), {
    messages: kept.map(({ message }) => messageOf(message)),
    more: true,
    top: { epoch: "r1", offset: 9 },
  });
  assert.deepEqual(got, [], "history calls no handlers");
});

/** Actions of the application or the server that make the client send a request of a type. */
const actions = {
  join: async (client, { room, history, since, presence, state, latest }, env) => {
    const { socket } = env;
    client.join(room, { history, presence: presence !== undefined, state });
    if (!since && latest === undefined) return;
    socket.reply("join", since && { ...since, top: since.offset });
    if (latest === undefined) {
      const { epoch } = since;
      socket.receive(message("chat", "after a gap", { room, offset: 99, prev: 98, epoch }));
      return;
    }
    socket.receive(message("shape", 1, { room, latest: "a" }));
    if (latest > 0) socket.receive({ message_type: "latest", room, ver: latest });
    if (presence) socket.receive(shown(room, presence));
    await env.reopen();
  },
  recover: (client, { room, since: { epoch, offset }, latest: ver }, { socket }) => {
    socket.receive({ message_type: "joined", room, content: { epoch, offset, top: offset } });
    if (ver) socket.receive({ message_type: "latest", room, ver });
    socket.receive(message("chat", "after a gap", { room, offset: 99, prev: 98, epoch }));
  },
  history: (client, { room, limit, before, after, epoch }) => {
    const bound = before ? { before: { offset: before, epoch } } : { after: { offset: after, epoch } };
    client.join(room).history({ limit, ...bound }).catch(() => {});
  },
  ack: async (client, { offset, epoch }, { socket }) => {
    socket.receive(message("chat", "hi", { offset, prev: 3, epoch }));
    await settled();
  },
  resume: (client, request, env) => env.reopen(),
  state: (client, { room, state }, { socket }) => {
    client.join(room).setState(state);
    socket.reply("join");
  },
  leave: (client, { room }) => client.join(room).leave(),
  call: (client, { method, content }) => void client.call(method, content).catch(() => {}),
  refresh: (client, request, { socket }) => socket.receive(expired),
  ping: (client) => void client.ping().catch(() => {}),
  send: (client, body, { socket }) => {
    const { message_type: type, content, message_id: id, ttl_ms: ttl, receipt, ephemeral, latest, ...to } =
      body;
    const target = to.all ? client.all
      : to.user ? client.user(to.user)
      : to.conn ? client.conn(to.conn)
      : to.server ? client.server
      : client.join(to.room);
    if (latest && to.room) socket.reply("join"); // a value waits until then
    if (ephemeral) target.send(type, content, { ephemeral });
    else if (latest) target.send(type, content, { latest });
    else target.send(type, content, { id, ttl, receipt }).catch(() => {});
  },
};

/** Returns a presence frame. */
const shown = (room, ver) => ({
  message_type: "presence", room, ver, show: "members", user_count: 1, connection_count: 1, members: { k1: {} },
});

/** Requests of other clients. */
const isForeign = ({ type, since }) => type === "presence" || (type === "recover" && !since);

for (const vector of fromClient("request").filter(({ request }) => !isForeign(request))) {
  test(`encodes a request: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const inbox = { epoch: "i1", offset: 3, top: 5 };
    const client = await env.open({ token: () => "t" }, undefined, { inbox, session: "s1" });
    const content = vector.binary === undefined ? vector.request.content : bytesOf(vector.binary);
    await actions[vector.request.type](client, { ...vector.request, content }, env);
    await env.pass(1);

    const sent = env.socket.sent.at(-1);
    const made = env.socket.requests.at(-1);
    const { id, message_id } = vector.request;
    if (message_id) assert.equal(made.message_id, message_id);
    else if (made.type === "send" && !made.ephemeral && !made.latest) assert.match(made.message_id, /^[\w-]{16}$/);
    const known = { id, ...message_id && { message_id } };
    assert.deepEqual(framesWith(made, sent, known), framesWith(known, dataOf(vector), known));
  });
}

/** Returns a frame with these IDs as text and bytes, so that the order of members is compared. */
function framesWith(made, data, { id, message_id }) {
  const [header, bytes] = typeof data === "string" ? [data, []] : partsOf(data);
  const request = { ...JSON.parse(header), id };
  if (message_id) request.message_id = message_id;
  else delete request.message_id;
  return { text: JSON.stringify(request), bytes: [...bytes] };
}

test("acknowledges state frames", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  const [{ request: { frames }, frame }] = fromClient("seen");
  for (let ver = 1; ver <= frames; ver++) env.socket.receive(shown("never joined", ver));
  await env.pass(1);
  assert.deepEqual(env.socket.sent, [frame]);
});

for (const vector of fromClient("answer")) {
  test(`encodes the answer to a call: ${vector.name}`, async (t) => {
    const env = new TestEnv(t);
    const client = await env.open();
    const { type, id, content } = vector.request;
    client.handle("anything", () => {
      if (type === "reply") return contentOf({ ...vector, content });
      const { code, message, retry_ms: retryAfter, data } = content;
      throw new RealtimeError(code, message, { retryAfter, data });
    });
    env.socket.receive({ message_type: "call", id, method: "anything" });
    await settled();
    const [sent] = env.socket.sent;
    assert.deepEqual(vector.frame === undefined ? sent.buffer : sent, dataOf(vector));
    assert.equal(env.socket.sent.length, 1);
  });
}

test("a ping is the text ping", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  await env.pass(25_000);
  assert.deepEqual(env.socket.sent, fromClient("ping").map(({ frame }) => frame));
});

const invalidFrames = [
  "", "pong", "ping", "null", "1", "[]", '"text"', "{", "{}", '{"message_type":7}',
  '{"message_type":"reply"}', '{"message_type":"reply","id":{}}',
  '{"message_type":"error"}', '{"message_type":"error","id":null,"content":{"code":7}}',
  '{"message_type":"error","id":null,"content":{"code":"x","room":7}}',
  '{"message_type":"call"}', '{"message_type":"call","id":1,"method":{"toString":1}}',
  '{"message_type":"reply","id":99}', '{"message_type":"welcome"}',
  '{"message_type":"welcome","content":{"max_message_bytes":{"valueOf":1}}}',
  '{"message_type":"systemnotification","room":"lobby"}',
  '{"message_type":"systemnotification","room":"lobby","content":{"type":"room_join","user_id":7}}',
  '{"message_type":"chat","sender_id":{},"timestamp":{},"id":[],"room":7,"__proto__":{"x":1}}',
  '{"message_type":"welcome","content":{"inbox":7,"session":{}}}',
  '{"message_type":"position"}', '{"message_type":"position","room":7,"offset":{},"epoch":7}',
  '{"message_type":"position","room":"lobby","offset":9}',
  '{"message_type":"position","room":"never joined","offset":9,"epoch":"r1"}',
  '{"message_type":"position","offset":9,"epoch":"i1","recovered":false,"reason":7}',
  '{"message_type":"skipped","room":"lobby","epoch":"r1"}',
  '{"message_type":"skipped","room":"lobby","from":{},"to":9,"epoch":"r1"}',
  '{"message_type":"chat","room":"lobby","offset":"9","epoch":"r1"}',
  '{"message_type":"chat","room":"lobby","offset":9,"epoch":7}',
  '{"message_type":"chat","offset":9,"prev":{},"epoch":"i1"}',
  '{"message_type":"presence"}', '{"message_type":"presence","room":"never joined","ver":1}',
  '{"message_type":"presence","room":"lobby","ver":{},"members":7}',
  '{"message_type":"presence","room":"lobby","ver":2,"members":[null,7,"x"]}',
  '{"message_type":"presence","room":"lobby","ver":3,"members":{"":{},"__proto__":{},"toString":null,"1":7,' +
    '"k":{"user":{"toString":1}}}}',
  '{"message_type":"latest"}', '{"message_type":"latest","room":"lobby","keys":7}',
  '{"message_type":"latest","room":"never joined","keys":[]}', '{"message_type":"latest","ver":7}',
  '{"message_type":"latest","room":"lobby","ver":{}}', '{"message_type":"latest","room":"never joined","ver":7}',
  '{"message_type":"shape","latest":"k"}', '{"message_type":"shape","latest":7}',
  '{"message_type":"shape","room":"lobby","latest":"k","content":null}',
  '{"message_type":"shape","room":"never joined","latest":"k"}',
  new ArrayBuffer(0), new Uint8Array([0x80]).buffer, new Uint8Array([0x7f, 0x7b, 0x7d]).buffer,
  new Uint8Array([0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).buffer,
  new Uint8Array([2, 0x7b, 0xff]).buffer,
];

test("the client does not throw for any frame", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  client.join("lobby", { presence: true });
  const answer = client.call("anything");
  env.socket.reply("join", { key: {}, show: 7 });
  for (const frame of invalidFrames) {
    assert.doesNotThrow(() => env.socket.receive(frame), String(frame));
  }
  await settled();
  assert.equal(env.status.state, "open");
  env.socket.refuse("call", "busy");
  assert.equal(await codeOf(answer), "busy");
});

test("a binary message shorter than its header is ignored", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.on("chat", (content) => got.push(content.length));
  const header = '{"message_type":"chat"}';
  const frame = (length) => Uint8Array.from([length, ...Buffer.from(header)]).buffer;
  env.socket.receive(frame(header.length + 1));
  assert.deepEqual(got, []);
  env.socket.receive(frame(header.length));
  assert.deepEqual(got, [0]);
});

test("frames before the welcome are ignored", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  const got = [];
  client.on("chat", (content) => got.push(content));
  await settled();
  env.socket.open();
  const strange = invalidFrames.filter((frame) => !String(frame).includes("welcome"));
  for (const frame of strange) env.socket.receive(frame);
  env.socket.receive('{"message_type":"chat","content":"early"}');
  assert.equal(client.status.state, "connecting");
  env.socket.welcome();
  assert.equal(client.status.state, "open");
  assert.deepEqual(got, []);
});
