// Where to, as whom, and one connection for all who ask for the same.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { connect, RealtimeError } from "../dist/realtime.js";
import { codeOf, settled, World } from "./kit.js";

/** Makes this a page at an address. */
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
    const world = new World(t);
    if (page) visit(t, page);
    const client = world.connect({}, url);
    await settled();
    assert.equal(world.socket.url, want);
    client.close();
    await world.pass(1);
  });
}

test("the URL is that of the page where it was given", async (t) => {
  const world = new World(t);
  visit(t, "https://example.com/app/");
  const client = world.connect({}, "ws");
  await settled();
  world.socket.welcome();
  globalThis.location.href = "https://example.com/elsewhere/"; // a page of one document
  await world.comeBack();
  assert.equal(world.socket.url, "wss://example.com/app/ws");
  client.close();
  await world.pass(1);
});

test("a URL that is none is thrown back", () => {
  assert.throws(() => connect("/ws"), TypeError);
  assert.throws(() => connect("http://"), TypeError);
});

test("without a WebSocket that is said", (t) => {
  const { WebSocket } = globalThis;
  delete globalThis.WebSocket;
  t.after(() => { if (WebSocket) globalThis.WebSocket = WebSocket; });
  assert.throws(() => connect("ws://localhost/none"), /pass one as an option/);
});

test("a URL that the WebSocket does not take is the end", async (t) => {
  const world = new World(t);
  class WebSocket {
    constructor() {
      throw new DOMException("mixed content", "SecurityError");
    }
  }
  world.connect({ WebSocket });
  await settled();
  const { state, willRetry, reason, error } = world.status;
  assert.deepEqual({ state, willRetry }, { state: "closed", willRetry: false });
  assert.match(reason, /wss:\/\/example\.com: .*mixed content/);
  assert.equal(error.code, "bad_url");
});

test("it offers the protocol", async (t) => {
  const world = new World(t);
  await world.open();
  assert.deepEqual(world.socket.protocols, ["realtime.v1"]);
});

test("a server that does not speak the protocol is not asked again", async (t) => {
  const world = new World(t);
  world.connect();
  await settled();
  world.socket.open("");
  assert.equal(world.status.state, "closed");
  assert.match(world.status.reason, /does not speak realtime\.v1/);
});

for (const [name, token] of [
  ["a string", "abc.DEF-1_2~3"],
  ["a function", () => "abc.DEF-1_2~3"],
  ["a promise", async () => "abc.DEF-1_2~3"],
]) {
  test(`the token is offered too: ${name}`, async (t) => {
    const world = new World(t);
    await world.open({ token });
    assert.deepEqual(world.socket.protocols, ["realtime.v1", "bearer.abc.DEF-1_2~3"]);
  });
}

for (const token of [undefined, "", () => null, async () => undefined]) {
  test(`no token is none: ${token}`, async (t) => {
    const world = new World(t);
    await world.open({ token });
    assert.deepEqual(world.socket.protocols, ["realtime.v1"]);
  });
}

for (const token of ["a b", "a,b", "YQ==", "é", "a\n"]) {
  test(`a token that no subprotocol can have is the end: ${JSON.stringify(token)}`, async (t) => {
    const world = new World(t);
    world.connect({ token });
    await settled();
    const { state, willRetry, error } = world.status;
    assert.deepEqual({ state, willRetry }, { state: "closed", willRetry: false });
    assert.equal(error.code, "bad_token");
    assert.equal(world.sockets.length, 0);
  });
}

test("each attempt asks for URL and token anew", async (t) => {
  const world = new World(t);
  let asked = 0;
  const client = world.connect(
    { token: () => `t${++asked}` }, async () => `wss://example.com/ws?ticket=${asked}`,
  );
  await settled();
  world.socket.welcome();
  await world.comeBack();
  assert.deepEqual(world.sockets.map(({ protocols }) => protocols[1]), ["bearer.t1", "bearer.t2"]);
  assert.equal(new Set(world.sockets.map(({ url }) => url)).size, 2);
  client.close();
});

test("a token that cannot be had now is asked for later", async (t) => {
  const world = new World(t);
  const cause = new Error("no network");
  let broken = true;
  world.connect({ token: async () => { if (broken) throw cause; return "t"; } });
  await settled();
  const { state, willRetry, reason, error } = world.status;
  assert.deepEqual({ state, willRetry, reason, error },
    { state: "waiting", willRetry: true, reason: "no network", error: cause });
  broken = false;
  await world.nextAttempt();
  assert.equal(world.sockets.length, 1);
});

for (const [what, url, token] of [
  ["token", undefined, () => "t"],
  ["URL", () => "wss://example.com/ws", undefined],
]) {
  test(`a function for the ${what} that hangs is called again, and not waited for`, async (t) => {
    const world = new World(t);
    let calls = 0;
    let late;
    const hangs = (then) => then && (() => ++calls > 1 ? then() : new Promise((resolve) => {
      late = () => resolve(then());
    }));
    world.connect({ token: hangs(token) }, hangs(url));
    await world.pass(29_750);
    assert.equal(world.statuses.length, 0);
    await world.pass(250);
    assert.equal(world.status.state, "waiting");
    assert.match(world.status.reason, /did not return in time/);
    late();
    await settled();
    assert.equal(world.sockets.length, 0, "it is too late");
    await world.nextAttempt();
    assert.deepEqual([calls, world.sockets.length], [2, 1]);
    world.socket.welcome();
    await world.pass(60_000 - 25_001);
    assert.equal(world.status.state, "open", "nothing is left of the timer");
  });
}

test("a function for the URL that hangs when the reason is asked for is given up too", async (t) => {
  const world = new World(t);
  let calls = 0;
  world.connect({}, () => ++calls === 2 ? new Promise(() => {}) : "wss://example.com/ws");
  await settled();
  world.socket.end(1006);
  await world.pass(30_000);
  assert.equal(world.status.state, "waiting");
  await world.nextAttempt();
  assert.equal(world.sockets.length, 2);
});

test("a token that hangs is asked for again by reconnect", async (t) => {
  const world = new World(t);
  let calls = 0;
  let hangs = true;
  const client = world.connect({ token: () => ++calls && hangs ? new Promise(() => {}) : "t" });
  await settled();
  client.reconnect();
  await settled();
  client.reconnect();
  await settled();
  assert.equal(calls, 2, "not twice at once");
  await world.pass(1_000);
  hangs = false;
  client.reconnect();
  await settled();
  world.socket.welcome();
  await world.pass(20_000);
  assert.deepEqual([calls, world.sockets.length, client.status.state], [3, 1, "open"]);
});

for (const when of ["at once", "later"]) {
  test(`a function for the token may use the client: ${when}`, async (t) => {
    const world = new World(t);
    const lost = [];
    const log = [];
    let client;
    const token = () => {
      client.reconnect();
      client.join("lobby");
      client.all.send("chat", 1).catch((error) => lost.push(error));
      client.call("add", 1, { timeout: 0 }).catch((error) => lost.push(error));
      client.ping().catch((error) => lost.push(error));
      assert.equal(world.connect(), client, "which is the same");
      client.close();
      log.push(client.status.state);
      return "t";
    };
    client = world.connect({
      token: when === "later" ? () => new Promise((resolve) => setTimeout(() => resolve(token()), 1)) : token,
    });
    for (let i = 0; i < 3; i++) await world.pass(2);
    world.socket.welcome();
    await world.pass(20_000);
    assert.equal(client.status.state, "open");
    assert.deepEqual(log, ["connecting", "connecting"]);
    assert.deepEqual(lost, []);
    assert.deepEqual(world.socket.requests.map(({ type }) => type),
      ["join", "send", "call", "ping", "send", "call", "ping"]);
  });
}

test("a function for the token may close the client", async (t) => {
  const world = new World(t);
  const client = world.connect({ token: () => { client.close(); return "t"; } });
  await world.pass(60_000);
  assert.deepEqual([client.status.state, world.sockets.length <= 1], ["closed", true]);
});

for (const token of ["<html>404", "a b"]) {
  test(`a token that is none waits for a better one, where there was a connection: ${token}`, async (t) => {
    const world = new World(t);
    let next = "t";
    await world.open({ token: () => next });
    next = token;
    world.socket.end(1006);
    await world.nextAttempt();
    assert.deepEqual([world.status.state, world.status.error.code], ["waiting", "bad_token"]);
    next = "t2";
    await world.nextAttempt();
    assert.equal(world.socket.protocols[1], "bearer.t2");
  });
}

test("an application that gives up says so with a RealtimeError", async (t) => {
  const world = new World(t);
  world.connect({ token: () => { throw new RealtimeError("logged_out"); } });
  await settled();
  assert.equal(world.status.state, "closed");
  assert.equal(world.status.error.code, "logged_out");
});

test("a URL of a function that is none is the end", async (t) => {
  const world = new World(t);
  world.connect({}, () => "ws://");
  await settled();
  assert.equal(world.status.state, "closed");
  assert.equal(world.status.error.code, "bad_url");
});

test("who we are is what the welcome says", async (t) => {
  const world = new World(t);
  const client = world.connect();
  assert.deepEqual([client.userId, client.connectionId], [null, null]);
  await settled();
  world.socket.welcome({ user_id: "zoe", connection_id: "conn_7" });
  assert.deepEqual([client.userId, client.connectionId], ["zoe", "conn_7"]);
  world.socket.end(1006);
  assert.deepEqual([client.userId, client.connectionId], ["zoe", null]);
});

test("connecting twice is one connection, until both have closed it", async (t) => {
  const world = new World(t);
  const [one, two] = [await world.open(), world.connect()];
  assert.equal(one, two);
  await settled();
  assert.equal(world.sockets.length, 1);
  one.close();
  await world.pass(1);
  assert.equal(two.status.state, "open");
  two.close();
  await world.pass(1);
  assert.equal(two.status.state, "closed");
  assert.equal(world.socket.closed, 1000);
});

test("a component that is mounted twice keeps its connection", async (t) => {
  const world = new World(t);
  const first = await world.open();
  first.close();
  const second = world.connect();
  await world.pass(1_000);
  assert.equal(second, first);
  assert.equal(second.status.state, "open");
  assert.equal(world.sockets.length, 1);
  second.close();
  await world.pass(1);
  const third = world.connect();
  assert.notEqual(third, second);
});

test("URLs with different tokens, and URLs of functions, are not shared", async (t) => {
  const world = new World(t);
  const url = () => "wss://example.com/ws";
  assert.notEqual(world.connect({ token: "a" }), world.connect({ token: "b" }));
  assert.notEqual(world.connect({}, url), world.connect({}, url));
});

test("connecting again wakes a client that stays away", async (t) => {
  const world = new World(t);
  const client = await world.open();
  world.socket.end(4403);
  assert.equal(client.status.state, "closed");
  world.connect();
  await settled();
  world.socket.welcome();
  assert.equal(client.status.state, "open");
});

test("close ends everything, and leaves no timer", async (t) => {
  const world = new World(t);
  const client = await world.open();
  const waiting = client.call("anything");
  waiting.catch(() => {}); // nobody looks at it in time
  const room = client.join("lobby");
  world.socket.reply("join");
  client.close();
  await world.pass(1);
  const { state, code, reason, willRetry } = client.status;
  assert.deepEqual({ state, code, reason, willRetry },
    { state: "closed", code: 1000, reason: "closed by the application", willRetry: false });
  assert.equal(await codeOf(waiting), "disconnected");
  assert.equal(await codeOf(room.send("chat", "hi")), "closed");
  assert.equal(await codeOf(client.call("anything")), "closed");
  assert.equal(room.joined, false);
  client.reconnect();
  await world.pass(600_000);
  assert.equal(world.sockets.length, 1);
  assert.deepEqual(world.socket.sent.map((data) => JSON.parse(data).type), ["call", "join"]);
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

test("close ends the wait for an attempt, and an attempt", async (t) => {
  const world = new World(t);
  const client = await world.open();
  world.socket.end(1011);
  client.close();
  await world.pass(60_000);
  assert.equal(world.sockets.length, 1);
  assert.equal(client.status.state, "closed");

  let give;
  const other = world.connect({ token: () => new Promise((resolve) => { give = resolve; }) });
  await settled();
  other.close();
  await world.pass(1);
  give("late");
  await settled();
  assert.equal(world.sockets.length, 1);
});

test("a socket that is let go of can no longer say anything", async (t) => {
  const world = new World(t);
  const client = await world.open();
  client.close();
  await world.pass(1);
  const { socket } = world;
  assert.deepEqual([socket.onopen, socket.onmessage, socket.onclose], [null, null, null]);
  assert.doesNotThrow(() => socket.onerror({}), "the package ws throws what nobody listens to");
});
