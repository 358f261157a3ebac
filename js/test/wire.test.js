// The golden vectors that the server is tested with too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { codeOf, expired, outcome, settled, World } from "./kit.js";

const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../testdata/wire/${name}.json`, import.meta.url)));
const fromServer = (kind) => vectors("server").filter((vector) => vector.kind === kind);
const fromClient = (kind) => vectors("client").filter((vector) => vector.kind === kind);

/** The frame as a WebSocket gives it. */
function dataOf({ frame, frame_base64: base64 }) {
  if (frame !== undefined) return frame;
  const { buffer, byteOffset, byteLength } = Buffer.from(base64, "base64");
  return buffer.slice(byteOffset, byteOffset + byteLength);
}

const bytesOf = (base64) => new Uint8Array(Buffer.from(base64, "base64"));

for (const vector of fromServer("message")) {
  test(`a message is understood: ${vector.name}`, async (t) => {
    const world = new World(t);
    const client = world.connect();
    await settled();
    if (vector.message.type !== "welcome") world.socket.welcome();
    const got = [];
    client.on(vector.message.type, (content, message) => got.push({ content, message }));
    world.socket.open();
    world.socket.receive(dataOf(vector));

    const { type, sender, binary, time, id, room } = vector.message;
    const content = binary === undefined ? vector.message.content : bytesOf(binary);
    const message = { type, sender, content, time: new Date(time * 1_000), id, room };
    assert.deepEqual(got, [{ content, message }]);
  });
}

for (const vector of fromServer("reply")) {
  test(`an answer is understood: ${vector.name}`, async (t) => {
    const world = new World(t);
    const client = await world.open();
    const answer = client.call("anything");
    world.socket.receive({ ...JSON.parse(vector.frame), id: world.socket.last("call").id });
    assert.deepEqual(await outcome(answer), vector.content);
  });
}

test("an error is understood", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const [vector] = fromServer("error").filter(({ id }) => id !== null);
  const answer = client.call("anything");
  world.socket.receive({ ...JSON.parse(vector.frame), id: world.socket.last("call").id });
  const error = await outcome(answer);
  assert.ok(error instanceof RealtimeError);
  assert.deepEqual({ code: error.code, message: error.message }, vector.error);
});

test("an error that nobody asked for asks for a newer token", async (t) => {
  const world = new World(t);
  await world.open({ token: () => "t" });
  const [vector] = fromServer("error").filter(({ id }) => id === null);
  world.socket.receive(vector.frame);
  await settled();
  assert.equal(world.socket.last("refresh").token, "t");
});

for (const vector of fromServer("call")) {
  test(`a call is understood: ${vector.name}`, async (t) => {
    const world = new World(t);
    const client = await world.open();
    const asked = [];
    client.handle(vector.method, (content) => { asked.push(content); });
    world.socket.receive(vector.frame);
    await settled();
    assert.deepEqual(asked, [vector.content]);
    assert.deepEqual(world.socket.requests, [{ type: "reply", id: vector.id }]);
  });
}

for (const vector of fromServer("left")) {
  test(`the end of a membership is understood: ${vector.name}`, async (t) => {
    const world = new World(t);
    const client = await world.open();
    const room = client.join(vector.room);
    const errors = [];
    room.onError(({ code }) => errors.push(code));
    world.socket.reply("join");
    world.socket.receive(vector.frame);
    assert.deepEqual(errors, ["removed"]);
  });
}

for (const vector of [...fromServer("ignored"), ...fromServer("pong")]) {
  test(`this does nothing: ${vector.name}`, async (t) => {
    const world = new World(t);
    await world.open();
    world.socket.receive(vector.frame);
    await settled();
    assert.equal(world.status.state, "open");
    assert.deepEqual(world.socket.sent, []);
  });
}

test("every kind of frame of the server is tried above", () => {
  const kinds = new Set(vectors("server").map(({ kind }) => kind));
  assert.deepEqual([...kinds].sort(), ["call", "error", "ignored", "left", "message", "pong", "reply"]);
});

/** What the application does to have a request sent. */
const ways = {
  join: (client, { room }) => client.join(room),
  leave: (client, { room }) => client.join(room).leave(),
  presence: (client, { room }) => client.join(room, { members: true }),
  call: (client, { method, content }) => void client.call(method, content).catch(() => {}),
  refresh: (client, request, socket) => socket.receive(expired),
  ping: (client) => void client.ping().catch(() => {}),
  send: (client, { message_type: type, content, ...to }) => {
    const target = to.all ? client.all
      : to.user ? client.user(to.user)
      : to.conn ? client.conn(to.conn)
      : client.join(to.room);
    target.send(type, content).catch(() => {});
  },
};

for (const vector of fromClient("request")) {
  test(`a request is made: ${vector.name}`, async (t) => {
    const world = new World(t);
    const client = await world.open({ token: () => "t" });
    const content = vector.binary === undefined ? vector.request.content : bytesOf(vector.binary);
    ways[vector.request.type](client, { ...vector.request, content }, world.socket);
    await world.pass(1);

    const sent = world.socket.sent.at(-1);
    const made = world.socket.requests.at(-1);
    if (made.type === "send") assert.match(made.message_id, /^[\w-]{16}$/);
    const { id, message_id } = vector.request;
    const known = { id, ...message_id && { message_id } };
    assert.deepEqual(framesWith(made, sent, known), framesWith(known, dataOf(vector), known));
  });
}

/** A frame with other ids, as text and bytes: so that the order of its members counts too. */
function framesWith(made, data, { id, message_id }) {
  const binary = typeof data !== "string";
  const bytes = Buffer.from(data);
  const header = binary ? bytes.subarray(1, 1 + bytes[0]) : bytes;
  const request = { ...JSON.parse(header), id };
  if (message_id) request.message_id = message_id;
  else delete request.message_id;
  return { text: JSON.stringify(request), bytes: binary ? [...bytes.subarray(1 + bytes[0])] : [] };
}

for (const vector of fromClient("answer")) {
  test(`a call is answered: ${vector.name}`, async (t) => {
    const world = new World(t);
    const client = await world.open();
    const { type, id, content } = vector.request;
    client.handle("anything", () => {
      if (type === "reply") return content;
      throw new RealtimeError(content.code, content.message);
    });
    world.socket.receive({ message_type: "call", id, method: "anything" });
    await settled();
    assert.deepEqual(world.socket.sent, [vector.frame]);
  });
}

test("a ping is sent as the four characters", async (t) => {
  const world = new World(t);
  await world.open();
  await world.pass(25_000);
  assert.deepEqual(world.socket.sent, fromClient("ping").map(({ frame }) => frame));
});

const nonsense = [
  "", "pong", "ping", "null", "1", "[]", '"text"', "{", "{}", '{"message_type":7}',
  '{"message_type":"reply"}', '{"message_type":"reply","id":{}}',
  '{"message_type":"error"}', '{"message_type":"error","id":null,"content":{"code":7}}',
  '{"message_type":"call"}', '{"message_type":"call","id":1,"method":{"toString":1}}',
  '{"message_type":"reply","id":99}', '{"message_type":"welcome"}',
  '{"message_type":"welcome","content":{"max_message_bytes":{"valueOf":1}}}',
  '{"message_type":"systemnotification","room":"lobby"}',
  '{"message_type":"systemnotification","room":"lobby","content":{"type":"room_join","user_id":7}}',
  '{"message_type":"chat","sender_id":{},"timestamp":{},"id":[],"room":7,"__proto__":{"x":1}}',
  new ArrayBuffer(0), new Uint8Array([0x80]).buffer, new Uint8Array([0x7f, 0x7b, 0x7d]).buffer,
  new Uint8Array([0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).buffer,
  new Uint8Array([2, 0x7b, 0xff]).buffer,
];

test("no frame of the server makes the client throw", async (t) => {
  const world = new World(t);
  const client = await world.open();
  client.join("lobby", { members: true });
  const answer = client.call("anything");
  world.socket.reply("presence", 7);
  for (const frame of nonsense) {
    assert.doesNotThrow(() => world.socket.receive(frame), String(frame));
  }
  await settled();
  assert.equal(world.status.state, "open");
  world.socket.refuse("call", "busy");
  assert.equal(await codeOf(answer), "busy");
});

test("a binary message that is shorter than it says is none", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const got = [];
  client.on("chat", (content) => got.push(content.length));
  const header = '{"message_type":"chat"}';
  const frame = (length) => Uint8Array.from([length, ...Buffer.from(header)]).buffer;
  world.socket.receive(frame(header.length + 1));
  assert.deepEqual(got, []);
  world.socket.receive(frame(header.length));
  assert.deepEqual(got, [0]);
});

test("nothing counts before the welcome", async (t) => {
  const world = new World(t);
  const client = world.connect();
  const got = [];
  client.on("chat", (content) => got.push(content));
  await settled();
  world.socket.open();
  const strange = nonsense.filter((frame) => !String(frame).includes("welcome"));
  for (const frame of strange) world.socket.receive(frame);
  world.socket.receive('{"message_type":"chat","content":"early"}');
  assert.equal(client.status.state, "connecting");
  world.socket.welcome();
  assert.equal(client.status.state, "open");
  assert.deepEqual(got, []);
});
