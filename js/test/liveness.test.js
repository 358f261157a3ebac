// Detection of dead connections: silence, late timers, hidden and frozen pages, network changes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settled, TestEnv } from "./helpers.js";

/** Simulates a page, and returns functions that trigger its events. */
function page(t) {
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { hidden: false });
  const signals = [];
  for (const target of [window, document]) {
    const listen = target.addEventListener.bind(target);
    target.addEventListener = (type, handler, options) => {
      signals.push(options.signal);
      listen(type, handler, options);
    };
  }
  Object.assign(globalThis, { addEventListener: window.addEventListener, document });
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.document;
  });
  return {
    listeners: () => signals.filter(({ aborted }) => !aborted).length,
    hide() {
      document.hidden = true;
      document.dispatchEvent(new Event("visibilitychange"));
    },
    show() {
      document.hidden = false;
      document.dispatchEvent(new Event("visibilitychange"));
    },
    online: () => window.dispatchEvent(new Event("online")),
    offline: () => window.dispatchEvent(new Event("offline")),
    thaw: (persisted) =>
      window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted })),
  };
}

test("a ping is sent after 25 s of silence, and the connection ends 10 s later", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  await env.pass(24_750);
  assert.equal(env.socket.pings, 0);
  await env.pass(250);
  assert.equal(env.socket.pings, 1);
  await env.pass(9_750);
  assert.equal(env.status.state, "open");
  await env.pass(250);
  const { state, code, reason } = env.status;
  assert.deepEqual({ state, code, reason },
    { state: "waiting", code: 1006, reason: "no sign of life from the server" });
  const [dead] = env.sockets;
  assert.equal(dead.closed, 1000);
  assert.equal(dead.onmessage, null, "the socket has no handlers any more");
});

for (const frame of ["pong", '{"message_type":"chat","content":1}', "other text"]) {
  test(`any frame is a sign of life: ${frame}`, async (t) => {
    const env = new TestEnv(t);
    await env.open();
    await env.pass(30_000);
    assert.equal(env.socket.pings, 1);
    env.socket.receive(frame);
    await env.pass(24_750);
    assert.equal(env.socket.pings, 1);
    await env.pass(250);
    assert.equal(env.socket.pings, 2);
    assert.equal(env.status.state, "open");
  });
}

test("no ping is sent while frames arrive", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  for (let i = 0; i < 20; i++) {
    await env.pass(20_000);
    env.socket.receive("pong");
  }
  assert.equal(env.socket.pings, 0);
});

test("a late timer sends a second ping before the connection ends", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  await env.pass(30_000);
  env.sleep(60_000);
  await env.pass(250);
  assert.equal(env.status.state, "open");
  assert.equal(env.socket.pings, 2);
  await env.pass(9_750);
  assert.equal(env.status.state, "open");
  await env.pass(250);
  assert.equal(env.status.state, "waiting", "no answer to the second ping");
});

test("a computer that was suspended sends a ping and waits for the answer", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  await env.pass(10_000);
  env.sleep(3_600_000);
  await env.pass(250);
  assert.equal(env.socket.pings, 1);
  env.socket.receive("pong");
  await env.pass(20_000);
  assert.equal(env.status.state, "open");
});

test("a hidden page waits 70 s for an answer", async (t) => {
  const env = new TestEnv(t);
  const { hide } = page(t);
  await env.open();
  hide();
  await env.pass(25_000 + 69_750);
  assert.equal(env.status.state, "open");
  await env.pass(250);
  assert.equal(env.status.state, "waiting");
});

test("a page that becomes visible sends a ping at once, and waits 5 s for an answer", async (t) => {
  const env = new TestEnv(t);
  const { hide, show } = page(t);
  await env.open();
  hide();
  await env.pass(1_000);
  assert.equal(env.socket.pings, 0);
  show();
  assert.equal(env.socket.pings, 1);
  await env.pass(4_750);
  assert.equal(env.status.state, "open");
  await env.pass(250);
  assert.equal(env.status.state, "waiting");
});

test("a page from the back/forward cache sends a ping at once", async (t) => {
  const env = new TestEnv(t);
  const { thaw } = page(t);
  await env.open();
  thaw(false); // an ordinary load
  assert.equal(env.socket.pings, 0);
  thaw(true);
  assert.equal(env.socket.pings, 1);
  env.socket.receive("pong");
  await env.pass(20_000);
  assert.equal(env.status.state, "open");
});

for (const sign of ["online", "show", "thaw"]) {
  test(`the wait before an attempt is ended by: ${sign}`, async (t) => {
    const env = new TestEnv(t);
    const browser = page(t);
    await env.open();
    env.random.mockImplementation(() => 0.99);
    env.socket.end(1006);
    browser[sign](true);
    await settled();
    assert.equal(env.sockets.length, 2);
    env.socket.welcome();
    await env.pass(5_000);
    assert.equal(env.sockets.length, 2, "once");
  });
}

for (const sign of ["online", "show", "thaw"]) {
  test(`a wait that the server has asked for is ended by: ${sign}`, async (t) => {
    const env = new TestEnv(t);
    const browser = page(t);
    env.answerFetch(429, {}, { "Retry-After": "60" });
    env.connect();
    await settled();
    env.socket.end(1006);
    await settled();
    assert.equal(env.status.retryIn, 60_500);
    browser[sign](true);
    await settled();
    assert.equal(env.status.state, "connecting");
    assert.equal(env.sockets.length, 2);
  });

  test(`an attempt that makes no progress is restarted by: ${sign}`, async (t) => {
    const env = new TestEnv(t);
    const browser = page(t);
    let calls = 0;
    env.connect({ token: () => ++calls === 1 ? new Promise(() => {}) : "t" });
    await settled();
    browser[sign](true);
    await settled();
    assert.deepEqual([calls, env.sockets.length], [2, 1]);
    browser[sign](true);
    await settled();
    assert.equal(env.sockets.length, 1, "several events start one attempt");
  });
}

for (const by of [-3_600_000, 3_600_000]) {
  test(`setting the clock by ${by / 60_000} minutes has no effect on pings`, async (t) => {
    const env = new TestEnv(t);
    await env.open();
    await env.pass(20_000);
    env.set += by;
    await env.pass(4_750);
    assert.equal(env.socket.pings, 0);
    await env.pass(250);
    assert.equal(env.socket.pings, 1);
    env.set -= 2 * by;
    await env.pass(9_750);
    assert.equal(env.status.state, "open");
    await env.pass(250);
    assert.equal(env.status.state, "waiting");
  });

  test(`setting the clock by ${by / 60_000} minutes has no effect on the duration of a connection`, async (t) => {
    const env = new TestEnv(t);
    await env.open();
    for (const [lasts, wait] of [[100, 500], [100, 1_000], [10_000, 500]]) {
      await env.pass(lasts);
      env.set += by;
      env.socket.end(1011);
      assert.equal(env.status.retryIn, wait);
      await env.nextAttempt();
      env.socket.welcome();
    }
  });
}

test("the connection lasts while written data leaves", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  for (let left = 400_000; left > 0; left -= 20_000) { // at 2 KB/s
    env.socket.bufferedAmount = left;
    await env.pass(10_000);
  }
  assert.equal(env.status.state, "open");
  await env.pass(20_000);
  assert.notEqual(env.status.state, "open", "the connection ends when no data leaves");
});

test("an announced large message extends the time", async (t) => {
  const env = new TestEnv(t);
  await env.open();
  env.socket.receive({ message_type: "large", bytes: 100_000 });
  await env.pass(124_750);
  assert.equal(env.socket.pings, 0);
  env.socket.receive({ message_type: "chat", content: "the large one" });
  await env.pass(24_750);
  assert.equal(env.socket.pings, 0);
  await env.pass(250);
  assert.equal(env.socket.pings, 1, "a ping follows as usual");
  env.socket.receive({ message_type: "large", bytes: 1e12 });
  await env.pass(3_600_000 + 35_000);
  assert.equal(env.status.state, "waiting", "the time is limited");
});

test("an application's message may have the type large", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  const got = [];
  client.on("large", (content) => got.push(content));
  env.socket.receive({ message_type: "large", bytes: 1_000 });
  env.socket.receive({ message_type: "large", content: "shirt" });
  assert.deepEqual(got, ["shirt"]);
});

test("an announced large message does not extend the time of a probe", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  env.socket.receive({ message_type: "large", bytes: 100_000 });
  client.reconnect();
  await env.pass(5_000);
  assert.equal(env.status.state, "waiting");
});

test("further probes do not extend the time", async (t) => {
  const env = new TestEnv(t);
  const client = await env.open();
  for (let i = 0; i < 5; i++) {
    client.reconnect();
    await env.pass(1_000);
  }
  assert.equal(env.socket.pings, 1);
  assert.equal(env.status.state, "waiting");
});

test("the offline event does not end the connection", async (t) => {
  const env = new TestEnv(t);
  const { offline } = page(t);
  await env.open();
  offline();
  await env.pass(10_000);
  assert.equal(env.status.state, "open");
});

test("events of the page do not restart a stopped or closed client", async (t) => {
  const env = new TestEnv(t);
  const { online, show, listeners } = page(t);
  const client = await env.open();
  env.socket.end(4403);
  online();
  await settled();
  assert.equal(env.sockets.length, 1);
  assert.equal(listeners(), 3);
  client.close();
  await env.pass(1);
  assert.equal(listeners(), 0);
  online();
  show();
  await env.pass(60_000);
  assert.equal(env.sockets.length, 1);
});
