// Calls from the server, and refreshing the token.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RealtimeError } from "../dist/realtime.js";
import { bytesFrame, codeOf, expired, outcome, partsOf, settled, TestEnv } from "./helpers.js";

const call = (id, method, content) => ({ message_type: "call", id, method, content });

/** Returns the request and the bytes of a binary frame. */
function parts(data) {
  const [header, bytes] = partsOf(data);
  return [JSON.parse(header), [...bytes]];
}

test("calls are answered in any order", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  let finish;
  client.handle("slow", () => new Promise((resolve) => { finish = resolve; }));
  client.handle("double", (n) => 2 * n);
  env.socket.receive(call(1, "slow"));
  env.socket.receive(call(2, "double", 21));
  await settled();
  finish("done");
  await settled();
  assert.deepEqual(env.socket.requests, [
    { type: "reply", id: 2, content: 42 }, { type: "reply", id: 1, content: "done" },
  ]);
});

test("calls and answers may be bytes", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  client.handle("reverse", (bytes) => bytes.toReversed());
  client.handle("buffer", (bytes) => bytes.buffer);
  client.handle("size", (bytes) => bytes.length);
  client.handle("nothing", () => undefined);
  const bytes = new Uint8Array([1, 2, 3]);
  for (const [i, method] of ["reverse", "buffer", "size", "nothing"].entries()) {
    env.socket.receive(bytesFrame(call(i, method), bytes));
    await settled();
  }
  const [reverse, buffer, size, nothing] = env.socket.sent;
  assert.deepEqual(parts(reverse), [{ type: "reply", id: 0 }, [3, 2, 1]]);
  assert.deepEqual(parts(buffer), [{ type: "reply", id: 1 }, [1, 2, 3]]);
  assert.deepEqual([size, nothing], ['{"type":"reply","id":2,"content":3}', '{"type":"reply","id":3}']);

  const answer = client.call("thumbnail", new DataView(bytes.buffer, 1));
  bytes[1] = 9; // the call is already encoded
  const [{ id, ...request }, sent] = parts(env.socket.sent.at(-1));
  assert.deepEqual([request, sent], [{ type: "call", method: "thumbnail" }, [2, 3]]);
  env.socket.receive(bytesFrame({ message_type: "reply", id }, []));
  assert.deepEqual(await outcome(answer), new Uint8Array());
});

test("an error in bytes is no answer that can be read", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const answer = client.call("thumbnail");
  const { id } = env.socket.last("call");
  env.socket.receive(bytesFrame({ message_type: "error", id }, [123, 125]));
  assert.equal(await codeOf(answer), "internal");
});

test("a call in bytes waits for a connection and is not sent twice", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  env.socket.end(1006);
  const answer = client.call("thumbnail", new Uint8Array([7]), { timeout: 0 });
  await env.nextAttempt();
  env.socket.welcome();
  await settled();
  assert.deepEqual(parts(env.socket.sent.at(-1))[1], [7]);
  env.socket.end(1006);
  assert.equal(await codeOf(answer), "disconnected");
});

test("an unknown method is answered with an error", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const off = client.handle("known", () => 1);
  client.handle("known", () => 2);
  off(); // no effect: the method was replaced
  env.socket.receive(call(1, "known"));
  env.socket.receive(call(2, "toString"));
  await settled();
  const [known, unknown] = env.socket.requests.toSorted((a, b) => a.id - b.id);
  assert.equal(known.content, 2);
  assert.deepEqual([unknown.type, unknown.id], ["error", 2]);
  assert.equal(unknown.content.code, "unknown_method");
});

test("the server receives a RealtimeError of a method, and no details of other errors", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const { mock } = t.mock.method(console, "error", () => {});
  client.handle("busy", () => { throw new RealtimeError("busy", "not now"); });
  client.handle("broken", async () => { throw new Error("the password is 1234"); });
  client.handle("no JSON", () => 1n);
  client.handle("no data", () => { throw new RealtimeError("a", "b", { data: 1n }); });
  for (const [i, method] of ["busy", "broken", "no JSON", "no data"].entries()) {
    env.socket.receive(call(i, method));
    await settled();
  }
  const internal = { code: "internal", message: "internal error" };
  assert.deepEqual(env.socket.requests.map(({ content }) => content),
    [{ code: "busy", message: "not now" }, internal, internal, internal]);
  assert.equal(mock.calls[0].arguments[0].message, "the password is 1234");
});

test("a too large answer is replaced by an error", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  await settled();
  env.socket.welcome({ max_message_bytes: 1_000 });
  client.handle("all", () => "x".repeat(1_000));
  env.socket.receive(call(1, "all"));
  client.handle("error", () => { throw new RealtimeError("a", "b", { data: "x".repeat(1_000) }); });
  env.socket.receive(call(2, "error"));
  client.handle("bytes", () => new Uint8Array(1_000));
  env.socket.receive(call(3, "bytes"));
  await settled();
  assert.deepEqual(env.socket.requests.map(({ content }) => content.code), ["too_large", "too_large", "too_large"]);
});

test("a call is not answered over another connection", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  let finish;
  client.handle("slow", () => new Promise((resolve) => { finish = resolve; }));
  env.socket.receive(call(1, "slow"));
  await env.reopen();
  finish("done");
  await settled();
  assert.deepEqual(env.sockets.map(({ requests }) => requests), [[], []]);
});

test("a token is refreshed when the server asks for it", async (t) => {
  const env = new TestEnv(t);
  let tokens = 0;
  await env.open({ token: async () => `t${++tokens}` });
  env.socket.receive(expired);
  await settled();
  assert.equal(env.socket.last("refresh").token, "t2");
  env.socket.refuse("refresh", "forbidden");
  await settled();
  assert.equal(env.status.state, "open", "a refused refresh does not close the connection");
});

test("the connection stays open if the token cannot be refreshed", async (t) => {
  const env = new TestEnv(t);
  let broken = false;
  await env.open({ token: () => { if (broken) throw new Error("offline"); return "t"; } });
  broken = true;
  env.socket.receive(expired);
  await settled();
  assert.deepEqual(env.socket.requests, []);
});

test("one connection answers 100 calls at the same time", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const finish = [];
  client.handle("slow", () => new Promise((resolve) => finish.push(resolve)));
  for (let i = 0; i < 101; i++) env.socket.receive(call(i, "slow"));
  await settled();
  const [{ id, content }, ...more] = env.socket.requests;
  assert.deepEqual([id, content.code, more], [100, "busy", []]);
  finish[7]();
  await settled();
  env.socket.receive(call(101, "slow"));
  await settled();
  assert.equal(finish.length, 101, "another call is answered");
  await env.reopen();
  env.socket.receive(call(1, "slow"));
  await settled();
  assert.deepEqual([finish.length, env.socket.requests], [102, []], "calls of the previous connection do not count");
});

test("only one new token is requested at a time", async (t) => {
  const env = new TestEnv(t);
  let calls = 0;
  let give;
  await env.open({ token: () => ++calls === 2 ? new Promise((resolve) => { give = resolve; }) : "t" });
  for (let i = 0; i < 3; i++) env.socket.receive(expired);
  await settled();
  assert.equal(calls, 2);
  give("t2");
  await settled();
  assert.deepEqual(env.socket.requests.map(({ type, token }) => [type, token]), [["refresh", "t2"]]);
  env.socket.receive(expired);
  await settled();
  assert.equal(calls, 3);
});

test("a pending token function does not prevent the next connection from requesting a token", async (t) => {
  const env = new TestEnv(t);
  let calls = 0;
  await env.open({ token: () => ++calls === 2 ? new Promise(() => {}) : "t" });
  env.socket.receive(expired);
  env.socket.end(4401);
  await env.nextAttempt();
  env.socket.welcome();
  env.socket.receive(expired);
  await settled();
  assert.equal(calls, 4);
  assert.equal(env.socket.last("refresh").token, "t");
});

test("a token function that takes more than 30 s can be called again, and its result is ignored", async (t) => {
  const env = new TestEnv(t);
  let calls = 0;
  let give;
  await env.open({ token: () => ++calls === 2 ? new Promise((resolve) => { give = resolve; }) : `t${calls}` });
  env.socket.receive(expired);
  await env.pass(20_000);
  env.socket.receive(expired);
  await env.pass(10_000);
  assert.equal(calls, 2);
  env.socket.receive(expired);
  await settled();
  assert.equal(env.socket.last("refresh")?.token, "t3");
  give("t2");
  await settled();
  assert.equal(env.socket.requests.length, 1);
});

test("a token that arrives after 30 s is ignored", async (t) => {
  const env = new TestEnv(t);
  let calls = 0;
  let give;
  await env.open({ token: () => ++calls === 2 ? new Promise((resolve) => { give = resolve; }) : "t" });
  env.socket.receive(expired);
  await env.pass(20_000);
  env.socket.receive({ message_type: "chat", content: "hi" });
  await env.pass(10_000);
  give("t2");
  await settled();
  assert.deepEqual(env.socket.requests, []);
});
