// URLs, tokens, and clients that are shared.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { connect, RealtimeError } from "../dist/realtime.js";
import { codeOf, settled, TestEnv } from "./helpers.js";

/** Simulates a page with this address. */
function visit(t, href) {
  globalThis.location = { href };
  t.after(() => { delete globalThis.location; });
}

for (const [page, url, want] of [
  ["https://example.com/app/page", "/ws", "wss://example.com/ws"],
  ["http://localhost:5173/app/page", "/ws", "ws://localhost:5173/ws"],
  ["https://example.com/app/page#top", "ws?user_id=bob", "wss://example.com/app/ws?user_id=bob"],
  ["https://example.com/", "wss://other.example/ws", "wss://other.example/ws"],
  ["https://example.com/", "https://other.example/ws", "wss://other.example/ws"],
  ["https://example.com/", "//other.example/ws", "wss://other.example/ws"],
  [undefined, "http://localhost:8080/ws", "ws://localhost:8080/ws"],
  [undefined, new URL("https://example.com/ws#here"), "wss://example.com/ws"],
]) {
  test(`${url} on ${page ?? "no page"} is ${want}`, async (t) => {
    const env = new TestEnv(t);
    if (page) visit(t, page);
    const client = env.connect({}, url);
    await settled();
    assert.equal(env.socket.url, want);
    client.close();
    await env.pass(1);
  });
}

test("a relative URL is resolved when connect is called", async (t) => {
  const env = new TestEnv(t);
  visit(t, "https://example.com/app/");
  const client = env.connect({}, "ws");
  await settled();
  env.socket.welcome();
  globalThis.location.href = "https://example.com/elsewhere/"; // navigation in a single-page application
  await env.reopen();
  assert.equal(env.socket.url, "wss://example.com/app/ws");
  client.close();
  await env.pass(1);
});

test("connect throws if the URL is invalid", () => {
  assert.throws(() => connect("/ws"), TypeError);
  assert.throws(() => connect("http://"), TypeError);
});

test("connect throws if there is no WebSocket", (t) => {
  const { WebSocket } = globalThis;
  delete globalThis.WebSocket;
  t.after(() => { if (WebSocket) globalThis.WebSocket = WebSocket; });
  assert.throws(() => connect("ws://localhost/none"), /pass one as an option/);
});

test("the client stops if the WebSocket refuses the URL", async (t) => {
  const env = new TestEnv(t);
  class WebSocket {
    constructor() {
      throw new DOMException("mixed content", "SecurityError");
    }
  }
  env.connect({ WebSocket });
  await settled();
  const { state, willRetry, reason, error } = env.status;
  assert.deepEqual({ state, willRetry }, { state: "closed", willRetry: false });
  assert.match(reason, /wss:\/\/example\.com: .*mixed content/);
  assert.equal(error.code, "bad_url");
});

test("the client offers the subprotocol", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  assert.deepEqual(env.socket.protocols, ["realtime.v1"]);
});

test("the client stops if the server does not speak the protocol", async (t) => {
  const env = new TestEnv(t);
  env.connect();
  await settled();
  env.socket.open("");
  assert.equal(env.status.state, "closed");
  assert.match(env.status.reason, /does not speak realtime\.v1/);
});

for (const [name, token] of [
  ["a string", "abc.DEF-1_2~3"],
  ["a function", () => "abc.DEF-1_2~3"],
  ["a promise", async () => "abc.DEF-1_2~3"],
]) {
  test(`the token is sent as a subprotocol: ${name}`, async (t) => {
    const env = new TestEnv(t);
    await env.open({ token });
    assert.deepEqual(env.socket.protocols, ["realtime.v1", "bearer.abc.DEF-1_2~3"]);
  });
}

for (const token of [undefined, "", () => null, async () => undefined]) {
  test(`an empty token is not sent: ${token}`, async (t) => {
    const env = new TestEnv(t);
    await env.open({ token });
    assert.deepEqual(env.socket.protocols, ["realtime.v1"]);
  });
}

for (const token of ["a b", "a,b", "YQ==", "é", "a\n"]) {
  test(`the client stops if the token has invalid characters: ${JSON.stringify(token)}`, async (t) => {
    const env = new TestEnv(t);
    env.connect({ token });
    await settled();
    const { state, willRetry, error } = env.status;
    assert.deepEqual({ state, willRetry }, { state: "closed", willRetry: false });
    assert.equal(error.code, "bad_token");
    assert.equal(env.sockets.length, 0);
  });
}

test("the functions for URL and token are called for each attempt", async (t) => {
  const env = new TestEnv(t);
  let asked = 0;
  const client = env.connect(
    { token: () => `t${++asked}` }, async () => `wss://example.com/ws?ticket=${asked}`,
  );
  await settled();
  env.socket.welcome();
  await env.reopen();
  assert.deepEqual(env.sockets.map(({ protocols }) => protocols[1]), ["bearer.t1", "bearer.t2"]);
  assert.equal(new Set(env.sockets.map(({ url }) => url)).size, 2);
  client.close();
});

test("the client tries again if the token function fails", async (t) => {
  const env = new TestEnv(t);
  const cause = new Error("no network");
  let broken = true;
  env.connect({ token: async () => { if (broken) throw cause; return "t"; } });
  await settled();
  const { state, willRetry, reason, error } = env.status;
  assert.deepEqual({ state, willRetry, reason, error },
    { state: "waiting", willRetry: true, reason: "no network", error: cause });
  broken = false;
  await env.nextAttempt();
  assert.equal(env.sockets.length, 1);
});

for (const [what, url, token] of [
  ["token", undefined, () => "t"],
  ["URL", () => "wss://example.com/ws", undefined],
]) {
  test(`a ${what} function that does not return ends its attempt and is called again`, async (t) => {
    const env = new TestEnv(t);
    let calls = 0;
    let late;
    const hangs = (then) => then && (() => ++calls > 1 ? then() : new Promise((resolve) => {
      late = () => resolve(then());
    }));
    env.connect({ token: hangs(token) }, hangs(url));
    await env.pass(29_750);
    assert.equal(env.statuses.length, 0);
    await env.pass(250);
    assert.equal(env.status.state, "waiting");
    assert.match(env.status.reason, /did not return in time/);
    late();
    await settled();
    assert.equal(env.sockets.length, 0, "a late result is ignored");
    await env.nextAttempt();
    assert.deepEqual([calls, env.sockets.length], [2, 1]);
    env.socket.welcome();
    await env.pass(60_000 - 25_001);
    assert.equal(env.status.state, "open", "the timer has no effect after the attempt");
  });
}

test("a URL function that does not return during the request for the reason ends that request", async (t) => {
  const env = new TestEnv(t);
  let calls = 0;
  env.connect({}, () => ++calls === 2 ? new Promise(() => {}) : "wss://example.com/ws");
  await settled();
  env.socket.end(1006);
  await env.pass(30_000);
  assert.equal(env.status.state, "waiting");
  await env.nextAttempt();
  assert.equal(env.sockets.length, 2);
});

test("reconnect calls a pending token function again", async (t) => {
  const env = new TestEnv(t);
  let calls = 0;
  let hangs = true;
  const client = env.connect({ token: () => ++calls && hangs ? new Promise(() => {}) : "t" });
  await settled();
  client.reconnect();
  await settled();
  client.reconnect();
  await settled();
  assert.equal(calls, 2, "not twice within a second");
  await env.pass(1_000);
  hangs = false;
  client.reconnect();
  await settled();
  env.socket.welcome();
  await env.pass(20_000);
  assert.deepEqual([calls, env.sockets.length, client.status.state], [3, 1, "open"]);
});

for (const when of ["at once", "later"]) {
  test(`a token function may use the client: ${when}`, async (t) => {
    const env = new TestEnv(t);
    const lost = [];
    const log = [];
    let client;
    const token = () => {
      client.reconnect();
      client.join("lobby");
      client.all.send("chat", 1).catch((error) => lost.push(error));
      client.call("add", 1, { timeout: 0 }).catch((error) => lost.push(error));
      client.ping().catch((error) => lost.push(error));
      assert.equal(env.connect(), client, "connect returns the same client");
      client.close();
      log.push(client.status.state);
      return "t";
    };
    client = env.connect({
      token: when === "later" ? () => new Promise((resolve) => setTimeout(() => resolve(token()), 1)) : token,
    });
    for (let i = 0; i < 3; i++) await env.pass(2);
    env.socket.welcome();
    await env.pass(20_000);
    assert.equal(client.status.state, "open");
    assert.deepEqual(log, ["connecting", "connecting"]);
    assert.deepEqual(lost, []);
    assert.deepEqual(env.socket.requests.map(({ type }) => type),
      ["join", "send", "call", "ping", "send", "call", "ping"]);
  });
}

test("a token function may close the client", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect({ token: () => { client.close(); return "t"; } });
  await env.pass(60_000);
  assert.deepEqual([client.status.state, env.sockets.length <= 1], ["closed", true]);
});

for (const token of ["<html>404", "a b"]) {
  test(`an invalid token does not stop a client that has had a connection: ${token}`, async (t) => {
    const env = new TestEnv(t);
    let next = "t";
    await env.open({ token: () => next });
    next = token;
    env.socket.end(1006);
    await env.nextAttempt();
    assert.deepEqual([env.status.state, env.status.error.code], ["waiting", "bad_token"]);
    next = "t2";
    await env.nextAttempt();
    assert.equal(env.socket.protocols[1], "bearer.t2");
  });
}

test("the client stops if the token function throws a RealtimeError", async (t) => {
  const env = new TestEnv(t);
  env.connect({ token: () => { throw new RealtimeError("logged_out"); } });
  await settled();
  assert.equal(env.status.state, "closed");
  assert.equal(env.status.error.code, "logged_out");
});

test("the client stops if the URL function returns an invalid URL", async (t) => {
  const env = new TestEnv(t);
  env.connect({}, () => "ws://");
  await settled();
  assert.equal(env.status.state, "closed");
  assert.equal(env.status.error.code, "bad_url");
});

test("userId and connectionId are those of the welcome", async (t) => {
  const env = new TestEnv(t);
  const client = env.connect();
  assert.deepEqual([client.userId, client.connectionId], [null, null]);
  await settled();
  env.socket.welcome({ user_id: "zoe", connection_id: "conn_7" });
  assert.deepEqual([client.userId, client.connectionId], ["zoe", "conn_7"]);
  env.socket.end(1006);
  assert.deepEqual([client.userId, client.connectionId], ["zoe", null]);
});

test("two calls of connect share one connection until both have closed it", async (t) => {
  const env = new TestEnv(t);
  const [one, two] = [await env.open(), env.connect()];
  assert.equal(one, two);
  await settled();
  assert.equal(env.sockets.length, 1);
  one.close();
  await env.pass(1);
  assert.equal(two.status.state, "open");
  two.close();
  await env.pass(1);
  assert.equal(two.status.state, "closed");
  assert.equal(env.socket.closed, 1000);
});

test("a component that is mounted twice keeps its connection", async (t) => {
  const env = new TestEnv(t);
  const first = await env.open();
  first.close();
  const second = env.connect();
  await env.pass(1_000);
  assert.equal(second, first);
  assert.equal(second.status.state, "open");
  assert.equal(env.sockets.length, 1);
  second.close();
  await env.pass(1);
  const third = env.connect();
  assert.notEqual(third, second);
});

test("URLs with different tokens, and URLs of functions, are not shared", async (t) => {
  const env = new TestEnv(t);
  const url = () => "wss://example.com/ws";
  assert.notEqual(env.connect({ token: "a" }), env.connect({ token: "b" }));
  assert.notEqual(env.connect({}, url), env.connect({}, url));
});

test("connect makes a stopped client try again", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  env.socket.end(4403);
  assert.equal(client.status.state, "closed");
  env.connect();
  await settled();
  env.socket.welcome();
  assert.equal(client.status.state, "open");
});

test("close ends the client and leaves no timer", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const waiting = client.call("anything");
  waiting.catch(() => {}); // handled below, but too late for Node
  const room = client.join("lobby");
  env.socket.reply("join");
  client.close();
  await env.pass(1);
  const { state, code, reason, willRetry } = client.status;
  assert.deepEqual({ state, code, reason, willRetry },
    { state: "closed", code: 1000, reason: "closed by the application", willRetry: false });
  assert.equal(await codeOf(waiting), "disconnected");
  assert.equal(await codeOf(room.send("chat", "hi")), "closed");
  assert.equal(await codeOf(client.call("anything")), "closed");
  assert.equal(room.joined, false);
  client.reconnect();
  await env.pass(600_000);
  assert.equal(env.sockets.length, 1);
  assert.deepEqual(env.socket.sent.map((data) => JSON.parse(data).type), ["call", "join"]);
});

test("a program ends when its client is closed", () => {
  const program = `
    import { connect } from "${new URL("../dist/realtime.js", import.meta.url)}";
    class WebSocket {
      constructor() { setTimeout(() => this.welcome()); }
      welcome() {
        this.protocol = "realtime.v1";
        this.onopen();
        this.onmessage({ data: '{"message_type":"welcome"}' });
      }
      send() { this.onmessage({ data: '{"message_type":"reply","id":1,"content":"done"}' }); }
      close() {}
    }
    const client = connect("ws://localhost/ws", { WebSocket });
    console.log(await client.call("anything", null, { timeout: 3_600_000 }));
    client.close();`;
  const run = spawnSync(process.execPath, ["--input-type=module", "--eval", program], {
    encoding: "utf8", timeout: 10_000,
  });
  assert.deepEqual([run.status, run.stdout, run.stderr], [0, "done\n", ""]);
});

test("close ends a wait, and an attempt in progress", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  env.socket.end(1011);
  client.close();
  await env.pass(60_000);
  assert.equal(env.sockets.length, 1);
  assert.equal(client.status.state, "closed");

  let give;
  const other = env.connect({ token: () => new Promise((resolve) => { give = resolve; }) });
  await settled();
  other.close();
  await env.pass(1);
  give("late");
  await settled();
  assert.equal(env.sockets.length, 1);
});

test("events of a closed socket are ignored", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  client.close();
  await env.pass(1);
  const { socket } = env;
  assert.deepEqual([socket.onopen, socket.onmessage, socket.onclose], [null, null, null]);
  assert.doesNotThrow(() => socket.onerror({}), "the package ws throws an error without a listener");
});
